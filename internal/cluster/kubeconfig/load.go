package kubeconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/meshproof/meshproof/internal/cluster"
)

// inCluster is what the cluster is called that this process runs in.
const inCluster = "in-cluster"

// wrong says what is wrong with what the user named.
func wrong(option, format string, args ...any) error {
	return &cluster.OptionError{Option: option, Problem: fmt.Sprintf(format, args...)}
}

// load reads the configuration and reduces it to the one context that is asked
// for. The files that it names have absolute paths then.
func load(options Options) (*api.Config, error) {
	if options.InCluster {
		return ownCluster()
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.WarnIfAllMissing, rules.MigrationRules = false, nil // it writes no files
	rules.ExplicitPath = options.Kubeconfig
	where := strings.Join(rules.GetLoadingPrecedence(), ", ")
	config, err := rules.Load()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, wrong("kubeconfig", "there is no file %s", where)
	case err != nil:
		return nil, wrong("kubeconfig", "%s", oneLine(err))
	case len(config.Contexts) == 0 && options.Context == "" && options.Kubeconfig == "" && inPod():
		return ownCluster()
	case len(config.Contexts) == 0:
		return nil, wrong("kubeconfig", "there is no kubeconfig with a context at %s; name another file here or in $KUBECONFIG", where)
	}
	known := strings.Join(slices.Sorted(maps.Keys(config.Contexts)), ", ")
	if options.Context != "" {
		config.CurrentContext = options.Context
	}
	if config.CurrentContext == "" {
		return nil, wrong("context", "kubeconfig %s chooses none; known are %s", where, known)
	}
	if config.Contexts[config.CurrentContext] == nil {
		return nil, wrong("context", "kubeconfig %s has none called %q; known are %s", where, config.CurrentContext, known)
	}
	if err := clientcmd.ConfirmUsable(*config, config.CurrentContext); err != nil {
		return nil, wrong("context", "%q of kubeconfig %s cannot be used: %s", config.CurrentContext, where, oneLine(err))
	}
	if err := api.MinifyConfig(config); err != nil {
		return nil, fmt.Errorf("reduce kubeconfig %s to context %q: %w", where, config.CurrentContext, err)
	}
	return config, nil
}

// inPod says whether this process runs in a pod that may talk to its cluster.
func inPod() bool {
	_, err := rest.InClusterConfig()
	return err == nil
}

// ownCluster is the cluster that this process runs in. The token stays a path:
// the kubelet renews what is there.
func ownCluster() (*api.Config, error) {
	own, err := rest.InClusterConfig()
	if err != nil {
		return nil, wrong("cluster", "find the cluster that this process runs in: %s", oneLine(err))
	}
	config := api.NewConfig()
	config.Clusters[inCluster] = &api.Cluster{Server: own.Host, CertificateAuthority: own.CAFile}
	config.AuthInfos[inCluster] = &api.AuthInfo{TokenFile: own.BearerTokenFile}
	config.Contexts[inCluster] = &api.Context{Cluster: inCluster, AuthInfo: inCluster}
	config.CurrentContext = inCluster
	return config, nil
}

// folderPrefix begins the names of the folders for kubeconfigs; this process's
// number follows.
const folderPrefix = "meshproof-kubeconfig-"

// write keeps the configuration in a folder that only this user may enter.
func write(config *api.Config) (folder string, err error) {
	folder, err = os.MkdirTemp("", fmt.Sprintf("%s%d-", folderPrefix, os.Getpid())) // has mode 0700
	if err != nil {
		return "", fmt.Errorf("make a folder for the kubeconfig: %w", err)
	}
	if err := clientcmd.WriteToFile(*config, file(folder)); err != nil { // with mode 0600
		return "", errors.Join(fmt.Errorf("write the kubeconfig: %w", err), os.RemoveAll(folder))
	}
	return folder, nil
}

// sweep removes the folders of processes that were killed.
func sweep() error {
	folders, err := filepath.Glob(filepath.Join(os.TempDir(), folderPrefix+"*"))
	if err != nil {
		return fmt.Errorf("look for what killed runs have left: %w", err)
	}
	var failed []error
	for _, folder := range folders {
		number, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(folder), folderPrefix), "-")
		pid, err := strconv.Atoi(number)
		if err == nil && pid > 0 && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			failed = append(failed, os.RemoveAll(folder))
		}
	}
	return errors.Join(failed...)
}

func file(folder string) string { return filepath.Join(folder, "kubeconfig") }

// oneLine is an error's text without line breaks.
func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}
