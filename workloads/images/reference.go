package images

import "strings"

// defaultHost is where references without a host name point.
const defaultHost = "docker.io"

// split takes a reference apart. The repository includes the host name; tag and
// digest are without their separators and empty when missing.
func split(reference string) (repository, tag, digest string) {
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

// FullName is the reference with what container runtimes add to it: the default
// host, "library/" and the tag "latest".
func FullName(reference string) string {
	repository, tag, digest := split(reference)
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
