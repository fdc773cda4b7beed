// Command istio drives Istio's own, unmodified CA client against Rootbridge and checks what comes
// back with Go's crypto/x509. The Rust tests call it; each mode prints one JSON document.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"istio.io/istio/pkg/log"
)

// modes maps the first argument to what it runs. A mode returns what is printed as JSON.
var modes = map[string]func(args []string) (any, error){
	"issue":  issue,
	"calls":  calls,
	"agent":  agent,
	"verify": verify,
}

func main() {
	if len(os.Args) < 2 || modes[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: istio issue|calls|agent|verify [flags]; -h after a mode lists its flags")
		os.Exit(2)
	}
	// The client logs to standard output unless configured; that is where our JSON goes.
	options := log.DefaultOptions()
	options.OutputPaths = []string{"stderr"}
	if err := log.Configure(options); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	result, err := modes[os.Args[1]](os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(result); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// server is where the CA listens and how a client comes to trust it.
type server struct {
	address string
	roots   string
	name    string
}

func (s *server) flags(set *flag.FlagSet) {
	set.StringVar(&s.address, "address", "", "host:port of the CA")
	set.StringVar(&s.roots, "roots", "", "PEM file with the roots that the CA's TLS certificate chains to")
	set.StringVar(&s.name, "server-name", "", "name expected in the CA's TLS certificate; the address's host when empty")
}
