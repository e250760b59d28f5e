// Command meshproof-agent is everything that runs inside a pod: the proxy and
// its helpers, the control plane, the sample workloads and the clients.
//
// The role is the first argument, or the name the program is called by when
// that is not its own. Roles are listed in one table and share nothing but the
// process's signals.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/meshproof/meshproof/clients/agent"
	"github.com/meshproof/meshproof/internal/authz"
	"github.com/meshproof/meshproof/internal/mesh/controller"
	"github.com/meshproof/meshproof/internal/mesh/destination"
	"github.com/meshproof/meshproof/internal/mesh/identity/issuer"
	"github.com/meshproof/meshproof/internal/mesh/injector"
	"github.com/meshproof/meshproof/internal/mesh/intercept"
	"github.com/meshproof/meshproof/internal/mesh/proxy"
	"github.com/meshproof/meshproof/workloads/echo"
	"github.com/meshproof/meshproof/workloads/emojivoto"
	"github.com/meshproof/meshproof/workloads/probed"
	"github.com/meshproof/meshproof/workloads/tamper"
)

// role runs until ctx ends; an error is printed and ends the process with 1.
type role func(ctx context.Context, args []string) error

// roles is the table of everything the agent can be. One line each.
var roles = map[string]role{
	"client":      agent.Main,
	"echo":        echo.Main,
	"emoji":       emojivoto.EmojiMain,
	"probed":      probed.Main,
	"vote-bot":    emojivoto.VoteBotMain,
	"voting":      emojivoto.VotingMain,
	"web":         emojivoto.WebMain,
	"destination": destination.Main,
	"identity":    issuer.Main,
	"injector":    injector.Main,
	"policy":      controller.Main,
	"proxy":       proxy.Main,
	"proxy-await": proxy.AwaitMain,
	"proxy-init":  intercept.Main,
	"scraper":     authz.Main,
	"stand-in":    echo.StandInMain,
	"tamper":      tamper.Main,
}

func main() {
	name, args := filepath.Base(os.Args[0]), os.Args[1:]
	name = strings.TrimPrefix(name, "emojivoto-")
	if name == "meshproof-agent" {
		if len(args) == 0 {
			usage()
		}
		name, args = args[0], args[1:]
	}
	run, ok := roles[name]
	if !ok {
		usage()
	}
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, args); err != nil {
		fmt.Fprintf(os.Stderr, "meshproof-agent %s: %v\n", name, err)
		os.Exit(1)
	}
}

func usage() {
	names := make([]string, 0, len(roles))
	for name := range roles {
		names = append(names, name)
	}
	slices.Sort(names)
	fmt.Fprintf(os.Stderr, "usage: meshproof-agent ROLE [flags]\nroles: %s\n", strings.Join(names, ", "))
	os.Exit(4)
}
