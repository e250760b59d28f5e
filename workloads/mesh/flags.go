package mesh

import "flag"

// ImageFlags adds the flags that say which images the mesh runs from and how, for
// everybody who installs one: the command line and the suites.
func ImageFlags(flags *flag.FlagSet, o *Options) {
	flags.StringVar(&o.Registry, "registry", "", "`registry` that has all images, perhaps with a path (see meshproof images push)")
	flags.StringVar(&o.ProxyImage, "proxy-image", "", "`image` of your own build of the proxy and of its init container, in place of the built-in ones")
	flags.StringVar(&o.ControllerImage, "controller-image", "", "`image` of your own build of the control plane, in place of the built-in one")
	flags.StringVar(&o.ImagePullPolicy, "image-pull-policy", "", "`when` nodes ask a registry for these images: Always, IfNotPresent or Never (default IfNotPresent)")
	flags.BoolVar(&o.NativeSidecar, "native-sidecar", false, "run proxies as native sidecars, where the cluster has them (Kubernetes 1.29)")
}
