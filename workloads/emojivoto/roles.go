package emojivoto

import (
	"context"
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc"

	"github.com/meshproof/meshproof/workloads/serve"
)

// EmojiMain is the role emoji: EmojiService on GRPC_PORT, metrics on PROM_PORT.
func EmojiMain(ctx context.Context, _ []string) error {
	return backend(ctx, RegisterEmoji)
}

// VotingMain is the role voting: VotingService on GRPC_PORT, metrics on PROM_PORT.
func VotingMain(ctx context.Context, _ []string) error {
	return backend(ctx, func(server *grpc.Server) { RegisterVoting(server, &Poll{}) })
}

func backend(ctx context.Context, register func(*grpc.Server)) error {
	port, err := required("GRPC_PORT")
	if err != nil {
		return err
	}
	var group serve.Group
	m := newMetrics()
	server := grpc.NewServer(grpc.ChainUnaryInterceptor(m.unary))
	register(server)
	if _, err := group.GRPC(net.JoinHostPort("", port), server); err != nil {
		return err
	}
	if port := os.Getenv("PROM_PORT"); port != "" {
		if _, err := group.HTTP(net.JoinHostPort("", port), m.handler(), false); err != nil {
			return err
		}
	}
	return group.Run(ctx)
}

// WebMain is the role web: the page and its API on WEB_PORT, with EmojiService
// at EMOJISVC_HOST and VotingService at VOTINGSVC_HOST. INDEX_BUNDLE, which the
// published manifests set, is accepted and not needed.
func WebMain(ctx context.Context, _ []string) error {
	port, err := required("WEB_PORT")
	if err != nil {
		return err
	}
	emojiHost, err := required("EMOJISVC_HOST")
	if err != nil {
		return err
	}
	votingHost, err := required("VOTINGSVC_HOST")
	if err != nil {
		return err
	}
	web, err := NewWeb(emojiHost, votingHost)
	if err != nil {
		return err
	}
	defer web.Close()
	var group serve.Group
	if _, err := group.HTTP(net.JoinHostPort("", port), web, false); err != nil {
		return err
	}
	return group.Run(ctx)
}

func required(name string) (string, error) {
	value := os.Getenv(name)
	if value == "" {
		return "", fmt.Errorf("environment variable %s is not set", name)
	}
	return value, nil
}
