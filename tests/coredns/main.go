// The lab's DNS server: CoreDNS' own core and command line with the plugins that the lab's Corefile names (tests/src/servers.rs)
// and no others. The stock program has fifty, whose clients of clouds and tracers take most of its build.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/whoami"
)

func main() {
	// In the order of the stock program's plugin.cfg: a question passes them from left to right.
	dnsserver.Directives = []string{"errors", "log", "hosts", "whoami"}
	coremain.Run()
}
