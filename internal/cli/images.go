package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/meshproof/meshproof/workloads/images"
)

func newImages(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "images", Short: "List, save and push the container images of this project", Args: exactArgs(0),
		Long: "The images are made from the static programs beside this one, without Docker: two builds\nof the same programs are equal byte for byte.",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	bin := cmd.PersistentFlags().String("bin", "", "folder of the programs that the images hold (default that of this program)")
	for _, verb := range []func(IOStreams, *string) *cobra.Command{newImagesList, newImagesSave, newImagesPush} {
		cmd.AddCommand(verb(streams, bin))
	}
	return cmd
}

// programs is the folder of the static programs.
func programs(bin string) (string, error) {
	if bin != "" {
		return bin, nil
	}
	executable, err := os.Executable()
	if err != nil {
		return "", &ExitError{Code: ExitSetup, Err: fmt.Errorf("find the programs' folder: %w", err)}
	}
	return filepath.Dir(executable), nil
}

// imagesError gives an exit code to what package images refuses.
func imagesError(err error) error {
	var unknown *images.UnknownError
	var registry *images.RegistryNameError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &unknown), errors.As(err, &registry):
		return &ExitError{Code: ExitUsage, Err: err}
	}
	// What is left is a program that is not built or not fit, a registry that does
	// not want, a disk that is full.
	return &ExitError{Code: ExitSetup, Err: err}
}

func newImagesList(streams IOStreams, bin *string) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "Tell each image: what for, how large, which digest", Args: exactArgs(0),
		Long: "Sizes are of what is pulled, digests as in a registry. A run on a cluster that has no images\nloads all of them but meshproof/meshproof, which is for runs inside a cluster."}
	output := cmd.Flags().StringP("output", "o", "table", "table or json")
	cmd.RunE = func(*cobra.Command, []string) error {
		if *output != "table" && *output != "json" {
			return usageError("unknown output %q: want table or json", *output)
		}
		folder, err := programs(*bin)
		if err != nil {
			return err
		}
		all, err := images.List(folder)
		if err != nil {
			return imagesError(err)
		}
		if *output == "json" {
			encoder := json.NewEncoder(streams.Out)
			encoder.SetIndent("", "  ")
			return encoder.Encode(all)
		}
		table := tabwriter.NewWriter(streams.Out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "REFERENCE\tSIZE\tDIGEST\tPURPOSE")
		for _, one := range all {
			size, digest := fmt.Sprintf("%.1f MB", float64(one.Size)/1e6), shortDigest(one.Digest)
			if len(one.Missing) > 0 {
				size, digest = "-", "not built: "+strings.Join(one.Missing, ", ")
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", one.References[0], size, digest, one.Purpose)
		}
		return table.Flush()
	}
	return cmd
}

// shortDigest is as much of a digest as tells images apart.
func shortDigest(digest string) string {
	const letters = len("sha256:") + 12
	return digest[:min(len(digest), letters)]
}

func newImagesSave(streams IOStreams, bin *string) *cobra.Command {
	cmd := &cobra.Command{Use: "save [IMAGE...]", Short: "Write images as an OCI archive; without names, all that a run needs",
		Example: "  meshproof images save -o images.tar\n  meshproof images save meshproof/agent | ctr -n k8s.io images import -"}
	file := cmd.Flags().StringP("output", "o", "-", "file to write; - is standard output")
	cmd.RunE = func(_ *cobra.Command, names []string) (err error) {
		folder, err := programs(*bin)
		if err != nil {
			return err
		}
		if *file == "-" {
			if terminal(streams.Out) {
				return usageError("an archive is not for a terminal: name a file with -o, or send the output on")
			}
			return imagesError(images.Save(streams.Out, folder, names...))
		}
		return saveFile(*file, func(out io.Writer) error { return images.Save(out, folder, names...) })
	}
	return cmd
}

// saveFile writes a file that is complete or not there: what was there before
// stays when something goes wrong. What is no file, such as a named pipe, is
// written to as it is.
func saveFile(path string, write func(io.Writer) error) (err error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		device, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return &ExitError{Code: ExitUsage, Err: err}
		}
		return imagesError(errors.Join(write(device), device.Close()))
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		var why *fs.PathError
		if errors.As(err, &why) {
			err = why.Err // its path is one that nobody has asked for
		}
		return &ExitError{Code: ExitUsage, Err: fmt.Errorf("write %s: %w", path, err)}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	err = errors.Join(write(file), file.Chmod(0o644), file.Close())
	if err != nil {
		return imagesError(err)
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return &ExitError{Code: ExitUsage, Err: fmt.Errorf("write %s: %w", path, err)}
	}
	return nil
}

// terminal tells whether somebody would look at what is written.
func terminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

func newImagesPush(streams IOStreams, bin *string) *cobra.Command {
	cmd := &cobra.Command{Use: "push --registry R [IMAGE...]", Short: "Put images into a registry; without names, all that a run needs",
		Long:    "Credentials are those of docker login and podman login. Each image is printed, by its digest,\nas soon as the registry has it. The same --registry given to `run` and `install` takes the images from there.",
		Example: "  meshproof images push --registry registry.example/mesh\n  meshproof images push --registry localhost:5000 meshproof/agent"}
	registry := cmd.Flags().String("registry", "", "host name of the registry, perhaps with a path")
	plain := cmd.Flags().Bool("plain-http", false, "talk to the registry without TLS (registries on loopback and private addresses always)")
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		if *registry == "" {
			return usageError("name the registry with --registry")
		}
		folder, err := programs(*bin)
		if err != nil {
			return err
		}
		told := ""
		_, err = images.Push(cmd.Context(), *registry, folder, images.PushOptions{PlainHTTP: *plain,
			Pushed: func(p images.Pushed) {
				if line := p.String(); line != told { // another tag of the same image is no news
					fmt.Fprintln(streams.Out, line)
					told = line
				}
			}}, names...)
		return imagesError(err)
	}
	return cmd
}
