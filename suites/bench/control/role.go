package control

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that bytesCodec falls back to
	"google.golang.org/grpc/mem"

	inboundpb "github.com/linkerd/linkerd2-proxy-api/go/inbound"

	"github.com/meshproof/meshproof/internal/mesh/controller/inbound"
	"github.com/meshproof/meshproof/internal/mesh/controller/index"
)

// Order is a line that the role is told.
type Order struct {
	Do        string `json:"do"`
	Namespace string `json:"namespace,omitempty"`
	Pods      int    `json:"pods,omitempty"`
	Size      Size   `json:"size,omitzero"`
	// Turn tells a change from the one before.
	Turn int    `json:"turn,omitempty"`
	API  string `json:"api,omitempty"`
}

// Answer is a line that it answers with.
type Answer struct {
	// Policy and Bare are addresses, once, at first.
	Policy string  `json:"policy,omitempty"`
	Bare   string  `json:"bare,omitempty"`
	Value  float64 `json:"value,omitempty"`
	// At is the time just before a change, in nanoseconds since the epoch.
	At    int64  `json:"at,omitempty"`
	Error string `json:"error,omitempty"`
}

// role is the controller's packages in a process of their own.
type role struct {
	index *index.Index
	bare  *bare
	sync  *following
}

// Role serves until ctx or its orders end.
func Role(ctx context.Context, orders io.Reader, out io.Writer) error {
	group, ctx := errgroup.WithContext(ctx)
	r := &role{index: index.New(config()), bare: &bare{told: make(chan struct{})}}
	policy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	group.Go(func() error {
		return inbound.Serve(ctx, policy, nil, &inbound.Service{Index: r.index, Stopping: ctx.Done()})
	})
	group.Go(func() error { return r.bare.serve(ctx, plain) })
	answers := json.NewEncoder(out)
	if err := answers.Encode(Answer{Policy: policy.Addr().String(), Bare: plain.Addr().String()}); err != nil {
		return err
	}
	for lines := bufio.NewScanner(orders); lines.Scan(); {
		var order Order
		answer := Answer{}
		err := json.Unmarshal(lines.Bytes(), &order)
		if err == nil {
			answer, err = r.obey(ctx, order)
		}
		if err != nil {
			answer.Error = err.Error()
		}
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
	if r.sync != nil {
		r.sync.stop()
	}
	stop()
	return group.Wait()
}

func (r *role) obey(ctx context.Context, o Order) (Answer, error) {
	at := time.Now().UnixNano()
	switch o.Do {
	case "fill":
		r.index.Update(func(tx *index.Tx) { objects(o.Size, func(object any) { apply(tx, object) }) })
		return Answer{}, nil
	case "watched":
		addWatched(r.index, o.Namespace, o.Pods)
		return Answer{}, nil
	case "change":
		r.index.Update(func(tx *index.Tx) { apply(tx, authorization(o.Namespace, "authz-0", "server", 100+o.Turn&1)) })
		return Answer{At: at}, nil
	case "bare":
		r.bare.tell()
		return Answer{At: at}, nil
	case "heap":
		return Answer{Value: heap()}, nil
	case "pods":
		return Answer{Value: perPod(o.Size)}, nil
	case "growth":
		return Answer{Value: growth(o.Size)}, nil
	case "no-op":
		return Answer{Value: r.noOp(o.Namespace)}, nil
	case "list":
		used := cpu()
		err := list(ctx, o.API)
		return Answer{Value: (cpu() - used).Seconds()}, err
	case "follow":
		used := cpu()
		var err error
		r.sync, err = follow(ctx, o.API)
		return Answer{Value: (cpu() - used).Seconds()}, err
	case "burst":
		n, err := r.sync.burst(ctx)
		return Answer{Value: float64(n)}, err
	case "transactions":
		n, right := r.sync.over(ctx)
		if !right {
			n = -n
		}
		return Answer{Value: float64(n)}, nil
	}
	return Answer{}, fmt.Errorf("unknown order %q", o.Do)
}

func cpu() time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0 // never
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// heap is what is live, stacks included.
func heap() float64 {
	runtime.GC()
	runtime.GC() // what the first one's finalizers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}

// perPod is the memory of a pod in the index beyond that of what was trimmed from
// it.
func perPod(s Size) float64 {
	build := func(keep func(string, index.PodSpec)) {
		for i := range s.Pods {
			p := pod(others, fmt.Sprintf("pod-%d", i), fmt.Sprintf("app-%d", i%s.Servers))
			keep(p.Name, index.NewPodSpec(p, config().Dialect))
		}
	}
	before := heap()
	trimmed := make([]*index.PodSpec, 0, s.Pods)
	build(func(_ string, spec index.PodSpec) { trimmed = append(trimmed, &spec) })
	between := heap()
	x := index.New(config())
	x.Update(func(tx *index.Tx) {
		build(func(name string, spec index.PodSpec) { tx.SetPod(others, name, spec) })
	})
	after := heap()
	runtime.KeepAlive(trimmed)
	runtime.KeepAlive(x)
	return ((after - between) - (between - before)) / float64(s.Pods)
}

// growth compares a change that ten watched ports depend on among all pods with
// the same among a tenth of them, turn by turn.
func growth(s Size) float64 {
	tenth := Size{Pods: s.Pods / 10, Servers: s.Servers / 10, Authorizations: s.Authorizations / 10}
	var indexes []*index.Index
	var spent [2]time.Duration
	for _, size := range []Size{s, tenth} {
		x := fill(size)
		for i := range size.Pods {
			if _, err := x.Watch(others, fmt.Sprintf("pod-%d", i), port); err != nil {
				panic(err) // the pod was just put there
			}
		}
		indexes = append(indexes, x)
	}
	for turn := range repeats {
		for i, x := range indexes {
			spec := config().NewAuthorizationSpec(authorization(others, "authz-0", "server-0", 100+turn&1))
			used := cpu()
			x.Update(func(tx *index.Tx) { tx.SetAuthorization(others, "authz-0", spec) })
			spent[i] += cpu() - used
		}
	}
	return float64(spent[0]) / float64(spent[1])
}

// noOp is the processor time in microseconds of an update in which nothing that
// counts has changed, from the moment its object has been read.
func (r *role) noOp(namespace string) float64 {
	changed := pod(namespace, watchedName(0), "app")
	changed.ResourceVersion, changed.Annotations = "2", map[string]string{"somebody": "was here"}
	changed.Status.Phase = "Running"
	spec := index.NewPodSpec(changed, config().Dialect)
	used := cpu()
	for range repeats {
		r.index.Update(func(tx *index.Tx) { tx.SetPod(namespace, changed.Name, spec) })
	}
	return float64((cpu() - used).Nanoseconds()) / 1e3 / repeats
}

// bare sends the same bytes to every stream whenever it is told to: what a change
// costs at least.
type bare struct {
	inboundpb.UnimplementedInboundServerPoliciesServer
	message []byte
	mu      sync.Mutex
	told    chan struct{}
}

func (b *bare) tell() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.told)
	b.told = make(chan struct{})
}

// WatchPort implements the API.
func (b *bare) WatchPort(_ *inboundpb.PortSpec, stream grpc.ServerStreamingServer[inboundpb.Server]) error {
	for {
		b.mu.Lock()
		told := b.told
		b.mu.Unlock()
		if err := stream.SendMsg(b.message); err != nil {
			return err
		}
		select {
		case <-told:
		case <-stream.Context().Done():
			return nil
		}
	}
}

// bytesCodec sends bytes as they are.
type bytesCodec struct{ encoding.CodecV2 }

// Marshal implements encoding.CodecV2.
func (c bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	if b, ok := v.([]byte); ok {
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	return c.CodecV2.Marshal(v)
}

// serve is inbound.Serve without a policy behind it.
func (b *bare) serve(ctx context.Context, l net.Listener) error {
	x := index.New(config())
	addWatched(x, watched, 1)
	snapshot, err := x.Lookup(watched, watchedName(0), port)
	if err != nil {
		return err
	}
	b.message = inbound.MessageOf(snapshot).Encoded
	const buffer, window = 4 << 10, 1<<16 - 1 // as the controller's
	server := grpc.NewServer(grpc.ForceServerCodecV2(bytesCodec{encoding.GetCodecV2("proto")}),
		grpc.ReadBufferSize(buffer), grpc.WriteBufferSize(buffer), grpc.SharedWriteBuffer(true),
		grpc.StaticStreamWindowSize(window), grpc.StaticConnWindowSize(window))
	inboundpb.RegisterInboundServerPoliciesServer(server, b)
	defer context.AfterFunc(ctx, server.Stop)()
	return server.Serve(l)
}
