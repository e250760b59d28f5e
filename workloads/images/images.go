// Package images is the table of container images: what each holds and how it
// starts.
//
// The embedded cluster resolves the references in pod specs against it and
// mounts the binaries from bin/; other clusters get archives built from the
// same table. It builds and pulls nothing itself.
package images

import (
	"fmt"
	"strings"
)

// Image is one entry of the table.
type Image struct {
	// Repository is the reference without tag and digest.
	Repository string
	// Files maps absolute paths inside the image to names of binaries in bin/.
	Files map[string]string
	// Entrypoint and Cmd have their OCI meaning.
	Entrypoint []string
	Cmd        []string
	// WorkingDir is the OCI working directory, "/" when empty.
	WorkingDir string
	// User is the numeric uid the image asks for when the pod does not.
	User int64
}

const agentBinary = "meshproof-agent"

// User is the uid of images that need no privileges. It must not be the uid of
// the mesh's proxy (2102): traffic of that uid is exempt from interception.
const User = 65532

// All returns the table. The order is fixed.
func All() []Image {
	agent := func(repository string, cmd ...string) Image {
		return Image{Repository: repository, Files: map[string]string{"/usr/local/bin/meshproof-agent": agentBinary},
			Entrypoint: append([]string{"/usr/local/bin/meshproof-agent"}, cmd...), User: User}
	}
	web := agent("docker.l5d.io/buoyantio/emojivoto-web", "web")
	// The vote bot lives in web's image under a name of its own; the agent
	// takes its role from the name it is called by.
	web.Files["/usr/local/bin/emojivoto-vote-bot"] = agentBinary
	return []Image{
		agent("meshproof/agent"),
		web,
		agent("docker.l5d.io/buoyantio/emojivoto-emoji-svc", "emoji"),
		agent("docker.l5d.io/buoyantio/emojivoto-voting-svc", "voting"),
		{Repository: "meshproof/grpcurl", Files: map[string]string{"/meshproof-grpcurl": "meshproof-grpcurl", "/grpcurl": "grpcurl"},
			Entrypoint: []string{"/meshproof-grpcurl"}, User: User},
		{Repository: "networld/grpcurl", Files: map[string]string{"/grpcurl": "grpcurl"}, Entrypoint: []string{"/grpcurl"}, User: User},
		{Repository: "fullstorydev/grpcurl", Files: map[string]string{"/bin/grpcurl": "grpcurl"}, Entrypoint: []string{"/bin/grpcurl"}, User: User},
	}
}

// Find resolves a reference from a pod spec, whatever its tag or digest.
func Find(reference string) (Image, error) {
	repository, _, _ := strings.Cut(reference, "@")
	if slash := strings.LastIndex(repository, "/"); strings.LastIndex(repository, ":") > slash {
		repository = repository[:strings.LastIndex(repository, ":")]
	}
	repository = strings.TrimPrefix(strings.TrimPrefix(repository, "docker.io/"), "library/")
	for _, image := range All() {
		if image.Repository == repository {
			return image, nil
		}
	}
	return Image{}, fmt.Errorf("image %q is not one of this project's images", reference)
}
