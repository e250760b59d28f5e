package inbound_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	inboundpb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshproof/meshproof/internal/mesh/controller/inbound"
	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/mesh/revision"
	"github.com/meshproof/meshproof/internal/policy/api"
)

func at(version uint64) revision.Revision {
	return revision.Revision{{Kind: "servers", Span: revision.Span{From: version, To: version}}}
}

func (s served) watch(t *testing.T, least string) grpc.ServerStreamingClient[inboundpb.Server] {
	t.Helper()
	ctx := within(t)
	if least != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, revision.LeastKey, least)
	}
	stream, err := s.client.WatchPort(ctx, &inboundpb.PortSpec{Workload: "emojivoto:web", Port: 8080})
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// told returns name and revision of the next message.
func told(t *testing.T, stream grpc.ServerStreamingClient[inboundpb.Server]) string {
	t.Helper()
	message, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return message.GetLabels()["name"] + " " + message.GetLabels()[revision.Label]
}

// The labels that Linkerd's proxies read are there as ever, and a message without the
// revision is the policy, byte for byte.
func TestARevisionIsOneLabelMoreAndNotPartOfThePolicy(t *testing.T) {
	s := serve(t, nil)
	s.update(func(tx *index.Tx) { tx.SetServer(ns, "a", mkServer(api.ProtocolHTTP1)); tx.Stamp(at(7)) })
	message, err := s.watch(t, "").Recv()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"group": api.Group, "kind": "server", "name": "a", revision.Label: "servers=7"}
	if diff := cmp.Diff(want, message.GetLabels()); diff != "" {
		t.Errorf("labels: -want +got\n%s", diff)
	}
	delete(message.Labels, revision.Label)
	text, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := s.index.Lookup(ns, "web", 8080)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	if got := hex.EncodeToString(sum[:]); got != inbound.MessageOf(snapshot).Hash {
		t.Errorf("without the revision the message has hash %s, and the policy %s", got, inbound.MessageOf(snapshot).Hash)
	}
}

// that time passes is no change.
func TestARevisionAloneIsNotTold(t *testing.T) {
	s := serve(t, nil)
	s.update(func(tx *index.Tx) { tx.Stamp(at(1)) })
	stream := s.watch(t, "")
	got := []string{told(t, stream)}
	for version := range uint64(20) {
		s.update(func(tx *index.Tx) { tx.Stamp(at(10 + version)) })
	}
	s.update(func(tx *index.Tx) { tx.SetServer(ns, "a", mkServer(api.ProtocolHTTP1)); tx.Stamp(at(40)) })
	got = append(got, told(t, stream))
	if diff := cmp.Diff([]string{"all-unauthenticated servers=1", "a servers=40"}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	// Who comes anew is told the present one.
	s.update(func(tx *index.Tx) { tx.Stamp(at(50)) })
	if got := told(t, s.watch(t, "")); got != "a servers=50" {
		t.Errorf("told %s", got)
	}
}

// Abuse case 80.
func TestAReplicaThatIsBehindSaysNothingUntilItIsNot(t *testing.T) {
	s := serve(t, nil)
	asked, reached := make(chan revision.Least, 1), make(chan struct{})
	s.service.Reach = func(ctx context.Context, least revision.Least) ([]string, error) {
		asked <- least
		select {
		case <-reached:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.update(func(tx *index.Tx) { tx.SetServer(ns, "old", mkServer(api.ProtocolHTTP1)); tx.Stamp(at(90)) })
	stream := s.watch(t, "servers=100")
	if diff := cmp.Diff(revision.Least{"servers": 100}, <-asked); diff != "" {
		t.Errorf("reaching for: -want +got\n%s", diff)
	}
	if _, watchers := s.index.Watched(); watchers != 0 {
		t.Error("it is watching already")
	}
	s.update(func(tx *index.Tx) {
		tx.DeleteServer(ns, "old")
		tx.SetServer(ns, "new", mkServer(api.ProtocolHTTP1))
		tx.Stamp(at(100))
	})
	close(reached)
	if got := told(t, stream); got != "new servers=100" {
		t.Errorf("told first: %s", got)
	}
	header, err := stream.Header()
	if err != nil || header.Get(revision.VoidKey) != nil {
		t.Errorf("header %v, %v", header, err)
	}
	// Who asks for nothing waits for nothing.
	if got := told(t, s.watch(t, "")); got != "new servers=100" {
		t.Errorf("told %s", got)
	}
}

func TestVoidKindsAreToldBeforeTheFirstMessage(t *testing.T) {
	s := serve(t, nil)
	s.service.Reach = func(context.Context, revision.Least) ([]string, error) { return []string{"pods", "servers"}, nil }
	s.update(func(tx *index.Tx) { tx.Stamp(at(5)) })
	stream := s.watch(t, "pods=90,servers=100")
	if got := told(t, stream); got != "all-unauthenticated servers=5" {
		t.Errorf("told %s", got)
	}
	header, err := stream.Header()
	if err != nil {
		t.Fatal(err)
	}
	if got := header.Get(revision.VoidKey); len(got) != 1 || !slices.Equal(revision.ParseKinds(got[0]), []string{"pods", "servers"}) {
		t.Errorf("void: %q", got)
	}
}

// Neither InvalidArgument nor FailedPrecondition, which end a proxy's questions
// (L-07).
func TestWhoCannotBeAnsweredIsToldToAskAgain(t *testing.T) {
	s := serve(t, nil)
	s.service.Reach = func(context.Context, revision.Least) ([]string, error) {
		return nil, errors.New("the API server is away")
	}
	for _, least := range []string{"servers=100", "servers"} {
		if _, err := s.watch(t, least).Recv(); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", least, err)
		}
	}
}

func TestWhoWaitsHoldsUpNoEnd(t *testing.T) {
	s := serve(t, nil)
	waiting := make(chan struct{})
	s.service.Reach = func(ctx context.Context, _ revision.Least) ([]string, error) {
		close(waiting)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	stream := s.watch(t, "servers=100")
	<-waiting
	s.stop()
	<-s.ended
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable && !errors.Is(err, io.EOF) {
		t.Errorf("ended with %v", err)
	}
}
