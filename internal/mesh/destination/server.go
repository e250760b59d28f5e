package destination

import (
	"reflect"

	pb "github.com/linkerd/linkerd2-proxy-api/go/destination"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Server answers the destination API from an index. A stream ends when its
// client goes, or when Done is closed.
type Server struct {
	pb.UnimplementedDestinationServer

	Index *Index
	// Done ends all streams; nil means never.
	Done <-chan struct{}
}

// GetProfile implements the API. Every target has a profile; that of one which
// nobody here knows is empty.
func (s *Server) GetProfile(request *pb.GetDestination, stream grpc.ServerStreamingServer[pb.DestinationProfile]) error {
	t, ok := parseTarget(request.GetPath(), s.Index.config.ClusterDomain)
	if !ok {
		return invalid(request)
	}
	var sent *Profile
	return s.follow(stream, t, func(w *Watch) error {
		now := w.Profile()
		if sent != nil && reflect.DeepEqual(*sent, now) {
			return nil
		}
		sent = &now
		return stream.Send(profileMessage(now, s.Index))
	})
}

// Get implements the API.
func (s *Server) Get(request *pb.GetDestination, stream grpc.ServerStreamingServer[pb.Update]) error {
	t, ok := parseTarget(request.GetPath(), s.Index.config.ClusterDomain)
	if !ok {
		return invalid(request)
	}
	var sent *Endpoints
	return s.follow(stream, t, func(w *Watch) error {
		now := w.Endpoints()
		for _, message := range updates(sent, now, s.Index) {
			if err := stream.Send(message); err != nil {
				return err
			}
		}
		sent = &now
		return nil
	})
}

// follow calls look at first and after every change about t.
func (s *Server) follow(stream grpc.ServerStream, t target, look func(*Watch) error) error {
	w := s.Index.watch(t)
	defer w.Close()
	for {
		select {
		case <-w.Changed():
			if err := look(w); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		case <-s.Done:
			return nil
		}
	}
}

func invalid(request *pb.GetDestination) error {
	return status.Errorf(codes.InvalidArgument, "%q is neither an address nor the name of a Service, with a port", request.GetPath())
}
