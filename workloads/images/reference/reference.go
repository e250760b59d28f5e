// Package reference reads and rewrites the names of container images.
//
// Text goes in and text comes out; nothing is asked of any registry. It is apart
// from package images for those who must stay small: it depends on nothing.
package reference

import (
	"regexp"
	"strings"
)

// defaultHost is where references without a host name point.
const defaultHost = "docker.io"

// untagged is what a reference without tag and digest means.
const untagged = "latest"

// Split takes a reference apart. The repository includes the host name; tag and
// digest are without their separators and empty when missing.
func Split(reference string) (repository, tag, digest string) {
	repository, digest, _ = strings.Cut(reference, "@")
	if slash, colon := strings.LastIndex(repository, "/"), strings.LastIndex(repository, ":"); colon > slash {
		repository, tag = repository[:colon], repository[colon+1:]
	}
	return repository, tag, digest
}

// host splits a repository into the registry's host name, which is empty when
// there is none, and the rest. A first part is a host name when it could not be
// a user's name, which is Docker's rule.
func host(repository string) (name, rest string) {
	first, rest, cut := strings.Cut(repository, "/")
	if cut && (strings.ContainsAny(first, ".:") || first == "localhost") {
		return first, rest
	}
	return "", repository
}

// Registry is the host name in a reference, "" when there is none and the default
// is meant.
func Registry(reference string) string {
	repository, _, _ := Split(reference)
	name, _ := host(repository)
	return name
}

// Full is the reference with what container runtimes add to it: the default
// host, "library/" and the tag "latest".
func Full(reference string) string {
	repository, tag, digest := Split(reference)
	name, rest := host(repository)
	if name == "" {
		name = defaultHost
	}
	if name == defaultHost && !strings.Contains(rest, "/") {
		rest = "library/" + rest
	}
	full := name + "/" + rest
	if tag == "" && digest == "" {
		tag = untagged
	}
	if tag != "" {
		full += ":" + tag
	}
	if digest != "" {
		full += "@" + digest
	}
	return full
}

// Relocate says where a registry that mirrors an image has it: the registry,
// which may have a path, in place of the reference's host name. With registry ""
// the reference stays as it is, and so does one that is in that registry
// already.
func Relocate(reference, registry string) string {
	registry = strings.TrimSuffix(registry, "/")
	if registry == "" || strings.HasPrefix(reference, registry+"/") {
		return reference
	}
	name, rest := host(reference)
	if name == defaultHost {
		rest = strings.TrimPrefix(rest, "library/")
	}
	return registry + "/" + rest
}

// valid is a reference as registries take it: host name and path, tag, digest.
var valid = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9.-]*(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)*(:[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127})?(@[a-z0-9]+:[0-9a-f]{32,})?$`)

// Valid says whether a node could look for an image of this name.
func Valid(reference string) bool { return valid.MatchString(reference) }

// Version is what tells images of one name apart: the tag, else the digest, else
// "latest".
func Version(reference string) string {
	_, tag, digest := Split(reference)
	switch {
	case tag != "":
		return tag
	case digest != "":
		return digest
	}
	return untagged
}
