package calibrate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"

	"github.com/meshproof/meshproof/clients/agent/control"
)

// Spawn starts an agent, whose command prints control.Announcement first, and
// returns it as a client; the function that is returned ends it.
func Spawn(ctx context.Context, cmd *exec.Cmd) (*Client, func(), error) {
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("start the client agent %s: %w", cmd.Path, err)
	}
	end := func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // says that it was killed
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	port, ok := control.Announced(line)
	if !ok {
		end()
		return nil, nil, errors.Join(fmt.Errorf("the client agent %s does not tell its port but %q", cmd.Path, line), err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	agent, idle := control.NewDialer(func(ctx context.Context) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "tcp", address)
	})
	client, stop, err := newClient(ctx, agent, cmd.Process.Pid)
	if err != nil {
		end()
		return nil, nil, err
	}
	return client, func() { idle(); end(); stop() }, nil
}
