package cri

import (
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

// publish makes the event and sends it under one lock, so that a subscriber
// never sees a state older than the one before.
func (b *broker) publish(make func() *runtimeapi.ContainerEventResponse) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.subscribers) == 0 {
		return
	}
	event := make()
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
	s.events.publish(func() *runtimeapi.ContainerEventResponse {
		now := time.Now().UnixNano()
		event := &runtimeapi.ContainerEventResponse{ContainerId: id, ContainerEventType: kind, CreatedAt: now}
		// The kubelet takes the event for the whole truth about the pod, so it
		// speaks of the pod's latest sandbox and of all its containers.
		latest := pod
		uid := pod.config.GetMetadata().GetUid()
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
	})
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
