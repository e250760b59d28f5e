package live

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"

	"github.com/meshproof/meshproof/internal/policy/explain"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// Explain answers the question as explain.Ask does, for the client as it is on
// the cluster, and notes what was observed. The client must have been made.
func (v *Visit) Explain(ctx context.Context, judge oracle.Oracle, set *objects.Set, q explain.Question) (explain.Answer, error) {
	if q.Request == nil {
		natural := explain.Natural(judge.Resolve(q.Workload.Pod, q.Port).Protocol)
		q.Request = &natural
	}
	request := *q.Request
	if request.Host == "" {
		request.Host = authority(v.cluster.pods[q.Workload.String()], q.Port)
	}
	q.Request = &request
	answer := explain.Ask(judge, set, q)
	var err error
	answer.Live, err = v.ask(ctx, q.Workload.String(), q.Port, q.Client, request, answer.Verdict)
	return answer, err
}

// harmless are requests that no application takes for a change.
func harmless(r oracle.Request) bool {
	switch r.Protocol {
	case oracle.GRPC:
		return r.Path == explain.Natural("gRPC").Path
	case oracle.HTTP1, oracle.HTTP2:
		return slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions}, r.Method)
	}
	return true
}

// Matrix puts every cell's question to the cluster that cannot change anything
// there. The clients must have been made. Workloads that do not run are left as
// they are.
func (v *Visit) Matrix(ctx context.Context, judge oracle.Oracle, set *objects.Set, asking []explain.Client) (explain.Matrix, error) {
	matrix := explain.NewMatrix(judge, set, asking)
	matrix.Live = true
	type call struct{ row, cell int }
	var calls []call
	for i, row := range matrix.Rows {
		if v.cluster.pods[row.Workload] == nil || !harmless(row.Asked) {
			continue
		}
		for j := range row.Cells {
			calls = append(calls, call{i, j})
		}
	}
	errs := make([]error, len(calls))
	slots := make(chan struct{}, callsAtOnce)
	var calling sync.WaitGroup
	for i, one := range calls {
		calling.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			row := &matrix.Rows[one.row]
			cell := &row.Cells[one.cell]
			cell.Live, errs[i] = v.ask(ctx, row.Workload, row.Port, asking[one.cell], row.Asked, cell.Verdict)
		})
	}
	calling.Wait()
	return matrix, errors.Join(errs...)
}
