// Command federation is SPIFFE's own Go library on either side of a bundle endpoint;
// tests/it/federation.rs calls it.
package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/federation"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

var (
	trustDomain = flag.String("trust-domain", "", "of the bundle")
	url         = flag.String("url", "", "fetch: the endpoint")
	ca          = flag.String("ca", "", "fetch by https_web: the server's anchors, PEM")
	id          = flag.String("id", "", "fetch by https_spiffe: the server's SPIFFE ID")
	bundle      = flag.String("bundle", "", "fetch by https_spiffe: the bundle that is known, PEM; serve: what is served, a JSON document")
	certificate = flag.String("certificate", "", "serve: the chain")
	key         = flag.String("key", "", "serve: its key")
)

func main() {
	mode := os.Args[1]
	if err := flag.CommandLine.Parse(os.Args[2:]); err != nil {
		os.Exit(2)
	}
	run := map[string]func(spiffeid.TrustDomain) error{"fetch": fetch, "serve": serve}[mode]
	td, err := spiffeid.TrustDomainFromString(*trustDomain)
	if err == nil {
		err = run(td)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// fetch prints what the library reads from an endpoint.
func fetch(td spiffeid.TrustDomain) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	option, err := server(td)
	if err != nil {
		return err
	}
	fetched, err := federation.FetchBundle(ctx, td, *url, option)
	if err != nil {
		return err
	}
	roots := []string{}
	for _, root := range fetched.X509Authorities() {
		digest := sha256.Sum256(root.Raw)
		roots = append(roots, hex.EncodeToString(digest[:]))
	}
	sequence, _ := fetched.SequenceNumber()
	hint, _ := fetched.RefreshHint()
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"trust_domain": fetched.TrustDomain().Name(),
		"roots":        roots,
		"sequence":     sequence,
		"refresh_hint": hint.Seconds(),
	})
}

func server(td spiffeid.TrustDomain) (federation.FetchOption, error) {
	if *id == "" {
		roots, err := authorities(*ca)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		for _, root := range roots {
			pool.AddCert(root)
		}
		return federation.WithWebPKIRoots(pool), nil
	}
	roots, err := authorities(*bundle)
	if err != nil {
		return nil, err
	}
	known := spiffebundle.FromX509Authorities(td, roots)
	server, err := spiffeid.FromString(*id)
	if err != nil {
		return nil, err
	}
	return federation.WithSPIFFEAuth(known, server), nil
}

func authorities(path string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		one, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	if len(all) == 0 {
		return nil, errors.New(path + " holds no certificate")
	}
	return all, nil
}

// document is a bundle in a file, read for each request.
type document struct {
	// Roots is the path of the roots, PEM.
	Roots    string `json:"roots"`
	Sequence uint64 `json:"sequence"`
}

func (document) GetBundleForTrustDomain(td spiffeid.TrustDomain) (*spiffebundle.Bundle, error) {
	text, err := os.ReadFile(*bundle)
	if err != nil {
		return nil, err
	}
	var now document
	if err := json.Unmarshal(text, &now); err != nil {
		return nil, err
	}
	roots, err := authorities(now.Roots)
	if err != nil {
		return nil, err
	}
	served := spiffebundle.FromX509Authorities(td, roots)
	served.SetSequenceNumber(now.Sequence)
	served.SetRefreshHint(time.Second)
	return served, nil
}

// serve prints its port.
func serve(td spiffeid.TrustDomain) error {
	handler, err := federation.NewHandler(td, document{})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	return (&http.Server{Handler: handler}).ServeTLS(listener, *certificate, *key)
}
