package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/internal/calibrate"
)

func newCalibrate(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "calibrate", Short: "Say what this machine can tell apart, and how many calls its clients can make", Args: exactArgs(0),
		Long: "Measures the noise floor of this machine as it is now, busy or not: how late timers are, how long it takes until\n" +
			"who was woken runs, and how long a round trip on loopback takes. Then a client agent makes calls, ever more of them,\n" +
			"until it no longer keeps the rate, and who of the two was the limit is said. It takes up to a minute and most of two processors.\n" +
			"Exit code 2 when something that is asked for is finer than the floor.",
		Example: "  meshproof calibrate\n  meshproof calibrate --finest 5ms --clients=false -o json"}
	flags := cmd.Flags()
	long := flags.Duration("for", 2*time.Second, "how long each measurement takes")
	finest := flags.Duration("finest", 0, "a time that is to be told apart from another, such as a budget")
	loads := flags.Bool("clients", true, "find out how many calls a client can make")
	programs := flags.String("programs", "", "folder of meshproof-agent (default that of this program)")
	output := flags.StringP("output", "o", "table", "table or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *output != "table" && *output != "json" {
			return usageError("unknown output %q: want table or json", *output)
		}
		if *long <= 0 || *finest < 0 {
			return usageError("--for %v --finest %v: want times above 0", *long, *finest)
		}
		noise, err := calibrate.Listen(cmd.Context(), *long)
		if err != nil {
			return &ExitError{Code: ExitSetup, Err: fmt.Errorf("listen to the machine: %w", err)}
		}
		report := calibrate.Report{Floor: noise.Floor(), Noise: noise}
		if *loads {
			folder := *programs
			if folder == "" {
				self, err := os.Executable()
				if err != nil {
					return fmt.Errorf("find this program's folder: %w", err)
				}
				folder = filepath.Dir(self)
			}
			agent := exec.Command(filepath.Join(folder, "meshproof-agent"), "client", "-listen", "127.0.0.1:0")
			client, end, err := calibrate.Spawn(cmd.Context(), agent)
			if err != nil {
				return &ExitError{Code: ExitSetup, Err: err}
			}
			defer end()
			if err := report.Measure(cmd.Context(), client, *long); err != nil {
				return &ExitError{Code: ExitSetup, Err: fmt.Errorf("find out what a client can do: %w", err)}
			}
		}
		if *output == "json" {
			encoder := json.NewEncoder(streams.Out)
			encoder.SetIndent("", "  ")
			err = encoder.Encode(report)
		} else {
			err = report.Text(streams.Out)
		}
		if err != nil {
			return err
		}
		if err := noise.Allows("--finest", *finest); *finest > 0 && err != nil {
			return &ExitError{Code: ExitInconclusive, Err: err}
		}
		return nil
	}
	return cmd
}
