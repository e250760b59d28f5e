package intercept

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"os"
)

// Main is the role proxy-init: it installs the redirection in the pod's network
// namespace and ends. Flags carry the names of Linkerd's own init container;
// --proxy-mark is ours.
func Main(_ context.Context, args []string) error {
	rules, err := parseFlags(args)
	if err != nil {
		return err
	}
	if err := Apply(rules); err != nil {
		return err
	}
	slog.New(slog.NewJSONHandler(os.Stderr, nil)).Info("redirection installed",
		"inbound_port", rules.InboundPort, "outbound_port", rules.OutboundPort,
		"proxy_uid", rules.ProxyUID, "proxy_mark", rules.ProxyMark,
		"skip_inbound", fmt.Sprint(rules.SkipInbound), "skip_outbound", fmt.Sprint(rules.SkipOutbound))
	return nil
}

func parseFlags(args []string) (Rules, error) {
	flags := flag.NewFlagSet("proxy-init", flag.ContinueOnError)
	inbound := flags.Uint("incoming-proxy-port", DefaultInboundPort, "`port` on which the proxy takes inbound traffic")
	outbound := flags.Uint("outgoing-proxy-port", DefaultOutboundPort, "`port` on which the proxy takes outbound traffic")
	uid := flags.Uint64("proxy-uid", 0, "user `id` whose traffic is left alone; 0 for none")
	mark := flags.Uint64("proxy-mark", 0, "socket `mark` whose traffic is left alone; 0 for none")
	skipIn := flags.String("inbound-ports-to-ignore", "", "inbound destination `ports` left alone, such as 25,4567-4568")
	skipOut := flags.String("outbound-ports-to-ignore", "", "outbound destination `ports` left alone")
	if err := flags.Parse(args); err != nil {
		return Rules{}, fmt.Errorf("read the flags of proxy-init: %w", err)
	}
	if flags.NArg() > 0 {
		return Rules{}, fmt.Errorf("proxy-init takes no argument %q", flags.Arg(0))
	}
	for name, port := range map[string]uint{"incoming-proxy-port": *inbound, "outgoing-proxy-port": *outbound} {
		if port == 0 || port > math.MaxUint16 {
			return Rules{}, fmt.Errorf("--%s %d is no port", name, port)
		}
	}
	if *uid > math.MaxUint32 || *mark > math.MaxUint32 {
		return Rules{}, fmt.Errorf("--proxy-uid %d or --proxy-mark %d is too large", *uid, *mark)
	}
	rules := Rules{InboundPort: uint16(*inbound), OutboundPort: uint16(*outbound), ProxyUID: uint32(*uid), ProxyMark: uint32(*mark)}
	var err error
	if rules.SkipInbound, err = ParsePorts(*skipIn); err != nil {
		return Rules{}, fmt.Errorf("--inbound-ports-to-ignore: %w", err)
	}
	if rules.SkipOutbound, err = ParsePorts(*skipOut); err != nil {
		return Rules{}, fmt.Errorf("--outbound-ports-to-ignore: %w", err)
	}
	return rules, nil
}
