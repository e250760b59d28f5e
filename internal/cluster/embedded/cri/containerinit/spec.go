// Package containerinit turns a freshly cloned process into a container: it is
// what runs between the clone and the execve.
//
// The container runtime re-executes its own program as process 1 of a new PID
// and mount namespace and sends a Spec over a socket. This package joins the
// pod's other namespaces, assembles the root file system from the Spec, enters
// it, gives up every privilege that the container does not get and becomes the
// container's command. The first error is sent back over the same socket, and
// nothing is sent when execve succeeded: the socket closes then.
//
// It imports little on purpose, since every container start pays for its
// initialisation, and it takes no decision: what a container may do has been
// decided by whoever made the Spec. It refuses to run outside a PID namespace
// of its own.
package containerinit

// Arguments are the hidden command line arguments by which a program that
// links this package is told to be a container's first process.
var Arguments = []string{"node", "container-init"}

// ControlFD is the descriptor on which process 1 finds its Spec: one end of a
// connected stream socket. Namespaces follow in the order of Spec.Namespaces.
const ControlFD = 3

// Spec is everything that a container's first process needs to know.
type Spec struct {
	// Namespaces says how many of the descriptors after ControlFD are
	// namespaces to join.
	Namespaces int
	// Staging is an empty directory of the runtime's mount namespace; the new
	// root is assembled there, visible to nobody else.
	Staging string
	// Hostname is written to /etc/hostname; the UTS namespace has it already.
	Texts []Text
	// Mounts is what the root consists of, parents before children.
	Mounts []Mount
	// Masked and ReadOnlyPaths are paths to hide or protect; absent ones are
	// no error.
	Masked, ReadOnlyPaths []string
	// ReadOnlyRoot protects the root itself, not the mounts in it.
	ReadOnlyRoot bool
	// Terminal asks for a pseudo terminal as standard input, output and error;
	// its other end is sent over the control socket.
	Terminal bool
	// OOMScoreAdj is tried, and left as it is when that is not allowed.
	OOMScoreAdj int
	Process     Process
}

// Text is a small file that is written into the root.
type Text struct {
	Path, Content string
}

// Mount puts a file or directory of the runtime's mount namespace into the
// container.
type Mount struct {
	// Source is followed if it is a symbolic link and must exist.
	Source, Target string
	ReadOnly       bool
	// Recursive applies ReadOnly to what is mounted below the source, too.
	Recursive bool
	// Receive lets mounts that appear below Source later appear in the
	// container.
	Receive bool
	// Device keeps device nodes usable; everything else is mounted without.
	Device bool
}

// Process is what a container's process is: the first one, and every one that
// joins it later.
type Process struct {
	// Args[0] is looked up in PATH of Env unless it holds a slash.
	Args, Env []string
	// Dir is made when it does not exist.
	Dir         string
	Credentials Credentials
}

// Credentials is who a container's process is and what it may do.
type Credentials struct {
	UID, GID int
	Groups   []uint32
	// KeepGroups leaves the supplementary groups alone, where the kernel
	// forbids changing them.
	KeepGroups bool
	// Bounding is the set of capabilities, bit N for capability N, that the
	// container can ever have; uid 0 has them at once. Ambient is the part of
	// it that other uids keep across execve.
	Bounding, Ambient uint64
	NoNewPrivileges   bool
}
