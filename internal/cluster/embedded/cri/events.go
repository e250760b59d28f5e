package cri

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// eventBacklog is how many events a slow subscriber may be behind before its
// stream is ended; it then lists everything anew, as after any broken stream.
const eventBacklog = 1000

// broker hands container events to subscribers. Its zero value is ready.
type broker struct {
	mu          sync.Mutex
	subscribers map[chan *runtimeapi.ContainerEventResponse]struct{}
	closed      bool
}

func (b *broker) subscribe() chan *runtimeapi.ContainerEventResponse {
	events := make(chan *runtimeapi.ContainerEventResponse, eventBacklog)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		close(events)
		return events
	}
	if b.subscribers == nil {
		b.subscribers = map[chan *runtimeapi.ContainerEventResponse]struct{}{}
	}
	b.subscribers[events] = struct{}{}
	return events
}

func (b *broker) unsubscribe(events chan *runtimeapi.ContainerEventResponse) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.subscribers, events)
}

// idle says that nobody listens.
func (b *broker) idle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.subscribers) == 0
}

// publish makes the event and sends it under one lock, so that a subscriber
// never sees a state older than the one before. make may return nil.
func (b *broker) publish(make func() *runtimeapi.ContainerEventResponse) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.subscribers) == 0 {
		return
	}
	event := make()
	if event == nil {
		return
	}
	for events := range b.subscribers {
		select {
		case events <- event:
		default:
			close(events)
			delete(b.subscribers, events)
		}
	}
}

func (b *broker) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for events := range b.subscribers {
		close(events)
	}
	b.subscribers = nil
}

// emit tells subscribers that something happened to the sandbox or container
// with this ID in pod.
func (s *Server) emit(kind runtimeapi.ContainerEventType, id string, pod *sandbox) {
	pod.changed.Store(time.Now().UnixNano())
	s.events.publish(func() *runtimeapi.ContainerEventResponse { return s.event(kind, id, pod) })
}

// event describes the pod as it is now. The kubelet takes it for the whole
// truth, so it speaks of the pod's latest sandbox and of all its containers.
func (s *Server) event(kind runtimeapi.ContainerEventType, id string, pod *sandbox) *runtimeapi.ContainerEventResponse {
	event := &runtimeapi.ContainerEventResponse{ContainerId: id, ContainerEventType: kind, CreatedAt: time.Now().UnixNano()}
	latest, uid := pod, pod.config.GetMetadata().GetUid()
	s.mu.RLock()
	for _, other := range s.sandboxes {
		if other.config.GetMetadata().GetUid() == uid && other.created.After(latest.created) {
			latest = other
		}
	}
	var all []*container
	for _, c := range s.containers {
		if c.pod.config.GetMetadata().GetUid() == uid {
			all = append(all, c)
		}
	}
	s.mu.RUnlock()
	event.PodSandboxStatus = latest.status()
	for _, c := range all {
		event.ContainersStatuses = append(event.ContainersStatuses, c.status())
	}
	return event
}

const (
	// refreshInterval is how often pods that changed less than refreshWindow
	// ago are told about again, and idleRefresh how often the others are.
	refreshInterval = 100 * time.Millisecond
	refreshWindow   = 2 * time.Second
	idleRefresh     = time.Second
)

// refresh repeats the state of pods for subscribers, until ctx ends. The
// kubelet takes no step with a pod before it has a state of it that is newer
// than its last step, and renews by itself only every 5 s when it relies on
// events. A creation is the one event that changes nothing but that.
func (s *Server) refresh(ctx context.Context) {
	ticker := time.NewTicker(refreshInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if s.events.idle() {
				continue
			}
			for _, pod := range s.staleSandboxes(now) {
				s.events.publish(func() *runtimeapi.ContainerEventResponse {
					// Not after its removal was told.
					if _, err := s.sandbox(pod.id); err != nil {
						return nil
					}
					pod.refreshed.Store(now.UnixNano())
					return s.event(runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT, pod.id, pod)
				})
			}
		}
	}
}

// staleSandboxes are those whose turn to be told about it is.
func (s *Server) staleSandboxes(now time.Time) []*sandbox {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var stale []*sandbox
	for _, pod := range s.sandboxes {
		at := now.UnixNano()
		if at-pod.changed.Load() < int64(refreshWindow) || at-pod.refreshed.Load() >= int64(idleRefresh) {
			stale = append(stale, pod)
		}
	}
	return stale
}

// GetContainerEvents streams what happens to sandboxes and containers, from
// now on.
func (s *Server) GetContainerEvents(_ *runtimeapi.GetEventsRequest, stream grpc.ServerStreamingServer[runtimeapi.ContainerEventResponse]) error {
	events := s.events.subscribe()
	defer s.events.unsubscribe(events)
	for {
		select {
		case <-stream.Context().Done():
			return nil
		case event, ok := <-events:
			if !ok {
				return status.Error(codes.Aborted, "event stream ended: the runtime stops, or the reader was too slow")
			}
			if err := stream.Send(event); err != nil {
				return err
			}
		}
	}
}
