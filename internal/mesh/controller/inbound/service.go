package inbound

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"

	inboundpb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcmetadata "google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/mesh/revision"
)

// Service answers proxies from the index.
type Service struct {
	inboundpb.UnimplementedInboundServerPoliciesServer

	// Index is where answers come from.
	Index *index.Index
	// Synced is closed when the index is complete. Until then calls wait, as long
	// as their callers do: an answer from half a cluster could be wider than the
	// policy, and an error would send proxies into back-off. Nil means complete.
	Synced <-chan struct{}
	// Reach waits until the index is as new as a proxy asks for, which has what another
	// replica told it, and returns the kinds of which it must forget that. Nil means
	// that this is the only replica there ever was.
	Reach func(ctx context.Context, least revision.Least) (void []string, err error)
	// Stopping is closed when the process is about to end; streams then end
	// without an error (W-05). Nil means never.
	Stopping <-chan struct{}
}

// GetPort answers with the present policy of a port.
func (s *Service) GetPort(ctx context.Context, spec *inboundpb.PortSpec) (*inboundpb.Server, error) {
	namespace, pod, port, err := parseSpec(spec)
	if err != nil {
		return nil, err
	}
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	snapshot, err := s.Index.Lookup(namespace, pod, port)
	if err != nil {
		return nil, lookupError(err)
	}
	return MessageOf(snapshot).Server, nil
}

// WatchPort sends the present policy and every later one, until the pod is
// deleted, the client leaves or the controller stops.
func (s *Service) WatchPort(spec *inboundpb.PortSpec, stream grpc.ServerStreamingServer[inboundpb.Server]) error {
	namespace, pod, port, err := parseSpec(spec)
	if err != nil {
		return err
	}
	if err := s.ready(stream.Context()); err != nil {
		return err
	}
	if err := s.reach(stream); err != nil {
		return err
	}
	watch, err := s.Index.Watch(namespace, pod, port)
	if err != nil {
		return lookupError(err)
	}
	defer watch.Close()
	var sent *index.Published
	left := stream.Context().Done()
	for {
		select {
		case _, there := <-watch.Changed():
			if !there {
				return nil // the pod is gone
			}
			// A change and its reversal between two sends are no change, and told for
			// their revision only.
			next := watch.Latest()
			if sent == next || sent != nil && next.Stamp == nil && MessageOf(next.Snapshot).Hash == MessageOf(sent.Snapshot).Hash {
				continue
			}
			if err := stream.SendMsg(tell(next)); err != nil {
				return err
			}
			sent = next
		case <-s.Stopping:
			return nil
		case <-left:
			return status.FromContextError(stream.Context().Err()).Err()
		}
	}
}

// reach waits until what will be told is no older than what the proxy holds. The
// index is then, and stays, as new as that: what is told first counts already.
func (s *Service) reach(stream grpc.ServerStream) error {
	texts := grpcmetadata.ValueFromIncomingContext(stream.Context(), revision.LeastKey)
	if s.Reach == nil || len(texts) == 0 {
		return nil
	}
	least, err := revision.ParseLeast(texts[0])
	if err != nil {
		// InvalidArgument would end the proxy's questions for good (L-07).
		return status.Error(codes.Unavailable, err.Error())
	}
	ctx, cancel := context.WithCancel(stream.Context())
	var ending sync.WaitGroup
	defer ending.Wait()
	defer cancel()
	ending.Go(func() {
		select {
		case <-s.Stopping:
			cancel()
		case <-ctx.Done():
		}
	})
	void, err := s.Reach(ctx, least)
	if err != nil {
		return status.Errorf(codes.Unavailable, "this replica is older than what the proxy has: %v", err)
	}
	if len(void) > 0 {
		return stream.SetHeader(grpcmetadata.Pairs(revision.VoidKey, revision.Kinds(void)))
	}
	return nil
}

func (s *Service) ready(ctx context.Context) error {
	if s.Synced == nil {
		return nil
	}
	select {
	case <-s.Synced:
		return nil
	case <-s.Stopping:
		return status.Error(codes.Unavailable, "the controller is stopping")
	case <-ctx.Done():
		return status.Error(codes.Unavailable, "the controller has not yet seen all policies")
	}
}

func lookupError(err error) error {
	if errors.Is(err, index.ErrNotFound) {
		return status.Error(codes.NotFound, "unknown server")
	}
	return status.Error(codes.Internal, err.Error())
}

// workload is the JSON form of PortSpec.workload (W-02).
type workload struct {
	Namespace        string `json:"ns"`
	Pod              string `json:"pod"`
	ExternalWorkload string `json:"external_workload"`
}

// parseSpec reads the workload in either of its forms, and the port. Its errors
// are InvalidArgument, and NotFound for workloads outside the cluster, which
// this controller does not know.
func parseSpec(spec *inboundpb.PortSpec) (namespace, pod string, port uint16, err error) {
	w, err := parseWorkload(spec.GetWorkload())
	if err != nil {
		return "", "", 0, status.Error(codes.InvalidArgument, err.Error())
	}
	if spec.GetPort() < 1 || spec.GetPort() > 65535 {
		return "", "", 0, status.Errorf(codes.InvalidArgument, "port %d is not between 1 and 65535", spec.GetPort())
	}
	if w.ExternalWorkload != "" {
		return "", "", 0, status.Error(codes.NotFound, "unknown server")
	}
	return w.Namespace, w.Pod, uint16(spec.GetPort()), nil
}

var errWorkload = errors.New(`workload: want NAMESPACE:POD or {"ns":NAMESPACE,"pod":POD}`)

func parseWorkload(text string) (workload, error) {
	var w workload
	if strings.HasPrefix(text, "{") {
		if err := json.Unmarshal([]byte(text), &w); err != nil {
			return w, errWorkload
		}
	} else {
		var ok bool
		if w.Namespace, w.Pod, ok = strings.Cut(text, ":"); !ok || strings.Contains(w.Pod, ":") {
			return w, errWorkload
		}
	}
	if w.Namespace == "" || (w.Pod == "") == (w.ExternalWorkload == "") {
		return w, errWorkload
	}
	return w, nil
}
