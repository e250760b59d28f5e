// Package images is the table of container images, what each holds and how it
// starts, and makes the images from it.
//
// The embedded cluster resolves the references in pod specs against the table
// and mounts the binaries from bin/. For other clusters the same binaries become
// OCI images:
//
//	table, bin/ --> layers --> images --Archive--> tar for nodes
//	                              |-----Save-----> tar for people
//	                              '-----Push-----> registry
//
// An image is a function of the table and of the binaries' bytes: neither their
// times, modes and owners nor anything else of the machine gets in, so two
// builds of the same commit have the same digests (as long as the Go version is
// the same, whose gzip is used). Nothing is pulled, and there are no base images: a
// layer is one static binary, shared by all images that hold it.
//
// It refuses binaries that are not static Linux programs.
package images

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/workloads/images/reference"
)

// Image is one entry of the table.
type Image struct {
	// Repository is the reference without tag and digest.
	Repository string
	// Tags that manifests and scenarios use; the first is the one to write.
	Tags []string
	// Purpose is one line for people.
	Purpose string
	// Files maps absolute paths inside the image to names of binaries in bin/.
	Files map[string]string
	// Entrypoint and Cmd have their OCI meaning.
	Entrypoint []string
	Cmd        []string
	// WorkingDir is the OCI working directory, "/" when empty.
	WorkingDir string
	// User is the numeric uid the image asks for when the pod does not.
	User int64
	// StandsFor is the full name of the image in whose place this one runs; empty
	// for an image that is itself.
	StandsFor string
}

const (
	agentBinary   = "meshproof-agent"
	programBinary = "meshproof"

	agentRepository   = "meshproof/agent"
	programRepository = "meshproof/meshproof"

	// Tag is that of this project's own images.
	Tag = "dev"
	// Agent is the reference of the image that runs every role in a pod.
	Agent = agentRepository + ":" + Tag
	// Program is the reference of the image with the command line, for runs
	// inside a cluster.
	Program = programRepository + ":" + Tag

	// untagged is what a reference without a tag means.
	untagged = "latest"
	// defaultHost is where references without a host name point.
	defaultHost = "docker.io/"
)

const (
	// User is the uid of images that need no privileges. It must not be ProxyUser.
	User = 65532
	// ProxyUser is the uid of the mesh's proxy. The interception lets its traffic
	// pass, so whatever else runs from the agent's image has to ask for another
	// user in its pod spec.
	ProxyUser = 2102
)

// All returns what a run needs. The order is fixed.
func All() []Image {
	const path = "/usr/local/bin/meshproof-agent"
	agent := func(repository, tag, purpose string, cmd ...string) Image {
		return Image{Repository: repository, Tags: []string{tag}, Purpose: purpose, Files: map[string]string{path: agentBinary},
			Entrypoint: append([]string{path}, cmd...), User: User}
	}
	grpcurl := func(repository, path string) Image {
		return Image{Repository: repository, Tags: []string{untagged}, Purpose: "grpcurl, under a name that documents use",
			Files: map[string]string{path: "grpcurl"}, Entrypoint: []string{path}, User: User}
	}
	own := agent(agentRepository, Tag, "every role in a pod: mesh, proxy, workloads, clients")
	own.Tags, own.User = append(own.Tags, untagged), ProxyUser
	web := agent("docker.l5d.io/buoyantio/emojivoto-web", "v11", "sample application: page and vote bot", "web")
	// The vote bot lives in web's image under a name of its own; the agent
	// takes its role from the name it is called by.
	web.Files["/usr/local/bin/emojivoto-vote-bot"] = agentBinary
	return []Image{
		own,
		web,
		agent("docker.l5d.io/buoyantio/emojivoto-emoji-svc", "v11", "sample application: emoji", "emoji"),
		agent("docker.l5d.io/buoyantio/emojivoto-voting-svc", "v11", "sample application: voting", "voting"),
		{Repository: "meshproof/grpcurl", Tags: []string{untagged}, Purpose: "grpcurl as a library, with an outcome in JSON",
			Files: map[string]string{"/meshproof-grpcurl": "meshproof-grpcurl", "/grpcurl": "grpcurl"}, Entrypoint: []string{"/meshproof-grpcurl"}, User: User},
		grpcurl("networld/grpcurl", "/grpcurl"),
		grpcurl("fullstorydev/grpcurl", "/bin/grpcurl"),
	}
}

// Everything is All and the images that are made only when they are asked for.
func Everything() []Image {
	const path = "/usr/local/bin/meshproof"
	return append(All(), Image{Repository: programRepository, Tags: []string{Tag}, Purpose: "the command line, for runs inside a cluster",
		Files: map[string]string{path: programBinary}, Entrypoint: []string{path}, User: User})
}

// References are the names that this image has, each with a tag, as manifests
// write them.
func (i Image) References() []string {
	var all []string
	for _, tag := range i.Tags {
		all = append(all, i.Repository+":"+tag)
	}
	return all
}

// StandInPrefix begins the names of images that run in the place of others.
const StandInPrefix = "meshproof.dev/stand-in/"

// FindOrStandIn is Find for clusters that have no other images than these: what
// is not in the table is stood in for, by the role stand-in, unless its name says
// that it is one of this project's own. A stand-in is found by its own name, too.
// Error: *UnknownError.
func FindOrStandIn(name string) (Image, error) {
	image, err := Find(strings.TrimPrefix(name, StandInPrefix))
	full := reference.Full(strings.TrimPrefix(name, StandInPrefix))
	own, _, _ := strings.Cut(agentRepository, "/")
	if err == nil || !reference.Valid(full) || strings.HasPrefix(full, defaultHost+own+"/") {
		return image, err
	}
	const path = "/usr/local/bin/meshproof-agent"
	return Image{Repository: StandInPrefix + full, Purpose: "runs in place of " + full, Files: map[string]string{path: agentBinary},
		Entrypoint: []string{path, "stand-in", "-image=" + full}, User: User, StandsFor: full}, nil
}

// UnknownError is about a reference that no image of the table has.
type UnknownError struct {
	Reference string
	// Suggestion is the repository that was perhaps meant.
	Suggestion string
}

func (e *UnknownError) Error() string {
	text := fmt.Sprintf("image %q is not one of this project's images", e.Reference)
	if e.Suggestion != "" {
		text += fmt.Sprintf("; did you mean %s?", e.Suggestion)
	}
	return text
}

// Relocate says where a registry that mirrors an image has it; see
// reference.Relocate.
func Relocate(name, registry string) string { return reference.Relocate(name, registry) }

// FullName is the reference as container runtimes know it; see reference.Full.
func FullName(name string) string { return reference.Full(name) }

// Find resolves a reference from a pod spec, whatever its tag or digest. Error:
// *UnknownError.
func Find(name string) (Image, error) {
	full, _, _ := reference.Split(reference.Full(name))
	all := Everything()
	for _, image := range all {
		if known, _, _ := reference.Split(reference.Full(image.Repository)); known == full {
			return image, nil
		}
	}
	return Image{}, &UnknownError{Reference: name, Suggestion: nearest(strings.TrimPrefix(full, defaultHost), all)}
}

// nearest is the repository whose last part is most like the wrong one's, "" when
// none is like it.
func nearest(wrong string, all []Image) string {
	last := func(repository string) string { return repository[strings.LastIndex(repository, "/")+1:] }
	if wrong == "" {
		return ""
	}
	distances := map[string]int{}
	for _, image := range all {
		distances[image.Repository] = min(distance(wrong, image.Repository), distance(last(wrong), last(image.Repository)))
	}
	best := slices.MinFunc(all, func(a, b Image) int { return cmp.Compare(distances[a.Repository], distances[b.Repository]) })
	if distances[best.Repository] > max(2, len(last(wrong))/3) {
		return ""
	}
	return best.Repository
}

// distance is the number of letters to insert, remove or replace (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			above := row[j+1]
			if a[i] == b[j] {
				row[j+1] = diagonal
			} else {
				row[j+1] = 1 + min(diagonal, above, row[j])
			}
			diagonal = above
		}
	}
	return row[len(b)]
}
