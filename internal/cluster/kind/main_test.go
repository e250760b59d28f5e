package kind

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// The test binary runs in two more roles: as docker, and as the owner of a
// cluster that is killed.
const (
	fakeVariable  = "MESHPROOF_TEST_FAKE_DOCKER"
	ownerVariable = "MESHPROOF_TEST_OWNER"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(fakeVariable); dir != "" && filepath.Base(os.Args[0]) == "docker" {
		os.Exit(fakeDocker(dir, os.Args[1:]))
	}
	if state := os.Getenv(ownerVariable); state != "" {
		os.Exit(own(state))
	}
	goleak.VerifyTestMain(m)
}

// world is what a fake docker knows.
type world struct {
	Images     []string
	Containers []fakeContainer
	// Fail are the texts with which commands fail, by their first word.
	Fail map[string]string
	// Hang keeps run from ending while its container is there.
	Hang bool
	// Calls are all commands so far.
	Calls []string
}

type fakeContainer struct {
	ID, Name, Cluster, Status string
	Created                   time.Time
}

// fake is a docker that is a file.
type fake struct{ dir string }

// newFake puts a fake docker before all other programs.
func newFake(t *testing.T, w world) *fake {
	t.Helper()
	dir := t.TempDir()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(executable, filepath.Join(dir, "docker")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	t.Setenv(fakeVariable, dir)
	t.Setenv(toolVariable, "")
	t.Setenv("DOCKER_HOST", "")
	f := &fake{dir}
	f.change(func(there *world) { *there = w })
	return f
}

// change looks at the world or changes it, alone.
func (f *fake) change(do func(*world)) {
	lock, err := os.OpenFile(filepath.Join(f.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		panic(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		panic(err)
	}
	var w world
	path := filepath.Join(f.dir, "world.json")
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &w)
	}
	if err != nil && !os.IsNotExist(err) {
		panic(err)
	}
	do(&w)
	if data, err = json.Marshal(w); err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		panic(err)
	}
}

func (f *fake) world() (out world) {
	f.change(func(w *world) { out = *w })
	return out
}

// names of all containers.
func (f *fake) names() []string {
	names := []string{}
	for _, c := range f.world().Containers {
		names = append(names, c.Name)
	}
	return names
}

func (f *fake) has(name string) bool { return slices.Contains(f.names(), name) }

// after is what follows a flag.
func after(arguments []string, flag string) string {
	if i := slices.Index(arguments, flag); i >= 0 && i+1 < len(arguments) {
		return arguments[i+1]
	}
	return ""
}

func fakeDocker(dir string, arguments []string) (code int) {
	f := &fake{dir}
	f.change(func(w *world) {
		w.Calls = append(w.Calls, strings.Join(arguments, " "))
		if text := w.Fail[arguments[0]]; text != "" && arguments[0] != "run" {
			fmt.Fprintln(os.Stderr, text)
			code = 1
		}
	})
	if code != 0 {
		return code
	}
	switch arguments[0] {
	case "-v":
		fmt.Println("Docker version 28.0.0, build fake")
	case "info":
		fmt.Println("{}")
	case "network":
		fmt.Println("kind")
	case "ps":
		f.ps(after(arguments, "--filter"), after(arguments, "--format"))
	case "image", "inspect":
		image := arguments[len(arguments)-1]
		if !slices.Contains(f.world().Images, image) {
			fmt.Fprintln(os.Stderr, "[]\nError: No such image: "+image)
			return 1
		}
	case "rm":
		f.change(func(w *world) {
			w.Containers = slices.DeleteFunc(w.Containers, func(c fakeContainer) bool { return slices.Contains(arguments, c.Name) })
		})
	case "run":
		return f.run(after(arguments, "--name"), arguments)
	case "wait":
		for f.has(arguments[1]) {
			time.Sleep(10 * time.Millisecond)
		}
	default:
		fmt.Fprintln(os.Stderr, "the fake knows no", arguments[0])
		return 1
	}
	return 0
}

func (f *fake) ps(filter, format string) {
	label := strings.TrimPrefix(filter, "label="+clusterLabel)
	for _, c := range f.world().Containers {
		if label != "" && label != "="+c.Cluster {
			continue
		}
		if format == "{{.Names}}" {
			fmt.Println(c.Name)
			continue
		}
		shown := ""
		if strings.Contains(format, ".Label ") {
			shown = c.Cluster
		}
		fmt.Printf("%s\t%s\t%s\t%s\t%s\n", c.ID, c.Name, c.Status, c.Created.Format("2006-01-02 15:04:05 -0700 MST"), shown)
	}
}

// run makes a container, which a failure leaves as docker does.
func (f *fake) run(name string, arguments []string) int {
	var failure string
	var hang bool
	f.change(func(w *world) {
		cluster := ""
		for _, argument := range arguments {
			if value, ok := strings.CutPrefix(argument, clusterLabel+"="); ok {
				cluster = value
			}
		}
		w.Containers = append(w.Containers, fakeContainer{ID: "new-" + name, Name: name, Cluster: cluster, Status: "Created", Created: time.Now()})
		failure, hang = w.Fail["run"], w.Hang
	})
	for hang && f.has(name) {
		time.Sleep(10 * time.Millisecond)
	}
	if hang {
		failure = "the container is gone"
	}
	if failure != "" {
		fmt.Fprintln(os.Stderr, failure)
		return 125
	}
	return 0
}
