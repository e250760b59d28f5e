package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/fullstorydev/grpcurl"
	//lint:ignore SA1019 the library's own interface is in terms of this package
	"github.com/golang/protobuf/proto"
	"github.com/google/uuid"
	"github.com/jhump/protoreflect/grpcreflect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/meshproof/meshproof/clients"
)

// call is one invocation.
type call struct {
	address, method, data string
	headers               []string
	plaintext, insecure   bool
	serverName            string
	timeout               time.Duration
}

// do dials, resolves the method by reflection, invokes it and says what came.
func (c call) do(ctx context.Context) clients.Outcome {
	out := clients.Outcome{Protocol: string(clients.GRPC), GRPCStatus: -1, RequestID: uuid.NewString(), Start: time.Now()}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	dialing, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	// The library would dial again until the time is over.
	watch := &clients.Watch{OnDialError: func(err error) { giveUp(err) }}
	answer, err := c.invoke(ctx, dialing, watch, out.RequestID)
	if cause := context.Cause(dialing); cause != nil && errors.Is(err, context.Canceled) {
		err = cause
	}
	out.End, out.LocalAddr = time.Now(), watch.LocalAddr()
	out.Bytes = answer.bytes
	if err == nil {
		err = answer.status.Err()
	}
	out.Kind, out.GRPCStatus, out.Message = judge(ctx, watch, answer, err)
	return out
}

// judge decides the kind by type: a status that came over the wire by its code,
// everything that the library made up by the fate of the connection.
func judge(ctx context.Context, watch *clients.Watch, answer *events, err error) (clients.Kind, int, string) {
	if err == nil {
		return clients.Allowed, int(codes.OK), ""
	}
	s, ok := status.FromError(err)
	if !ok {
		if answer.reflected {
			// The server has answered; what it says does not fit the call.
			return clients.Other, -1, err.Error()
		}
		return watch.Kind(errors.Join(ctx.Err(), err)), -1, err.Error()
	}
	if ctx.Err() != nil && s.Code() == codes.DeadlineExceeded {
		return clients.Timeout, int(s.Code()), s.Message()
	}
	if s.Code() == codes.Unavailable {
		return watch.Kind(err), int(s.Code()), s.Message()
	}
	return clients.GRPCKind(s.Code()), int(s.Code()), s.Message()
}

func (c call) invoke(ctx, dialing context.Context, watch *clients.Watch, id string) (*events, error) {
	answer := &events{}
	var creds credentials.TransportCredentials
	if !c.plaintext {
		creds = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.serverName, InsecureSkipVerify: c.insecure})
	}
	conn, err := grpcurl.BlockingDial(dialing, "tcp", c.address, creds, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		return watch.Dial(ctx, address)
	}))
	if err != nil {
		return answer, fmt.Errorf("dial %s: %w", c.address, err)
	}
	defer conn.Close()
	headers := append([]string{clients.HeaderID + ": " + id}, c.headers...)
	reflected := metadata.NewOutgoingContext(ctx, grpcurl.MetadataFromHeaders(headers))
	reflection := grpcreflect.NewClientAuto(reflected, conn)
	defer reflection.Reset()
	source := grpcurl.DescriptorSourceFromServer(reflected, reflection)
	parser, _, err := grpcurl.RequestParserAndFormatter(grpcurl.FormatJSON, source, strings.NewReader(c.data), grpcurl.FormatOptions{})
	if err != nil {
		return answer, fmt.Errorf("read the request's data: %w", err)
	}
	if err := grpcurl.InvokeRPC(ctx, source, conn, c.method, headers, answer, parser.Next); err != nil {
		return answer, err
	}
	return answer, nil
}

// events collects what the library tells about the call.
type events struct {
	grpcurl.DefaultEventHandler
	reflected bool
	bytes     int64
	status    *status.Status
}

func (e *events) OnReceiveHeaders(metadata.MD)            { e.reflected = true }
func (e *events) OnReceiveResponse(message proto.Message) { e.bytes += int64(proto.Size(message)) }
func (e *events) OnReceiveTrailers(s *status.Status, _ metadata.MD) {
	e.reflected, e.status = true, s
}
