package main

import (
	"crypto/x509"
	"flag"
	"os"
)

// verify checks any chain with Go's crypto/x509: leaf first, intermediates after it.
func verify(args []string) (any, error) {
	set := flag.NewFlagSet("verify", flag.ExitOnError)
	chainFile := set.String("chain", "", "PEM file: the leaf, then its intermediates")
	rootsFile := set.String("roots", "", "PEM file with the roots")
	dns := set.String("dns", "", "DNS name or IP address that the leaf must be valid for")
	usage := set.String("usage", "both", "server, client, both or any")
	_ = set.Parse(args)

	usages := map[string][]x509.ExtKeyUsage{
		"server": {x509.ExtKeyUsageServerAuth},
		"client": {x509.ExtKeyUsageClientAuth},
		"both":   {x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		"any":    {x509.ExtKeyUsageAny},
	}[*usage]
	path, err := parseFile(*chainFile)
	if err != nil {
		return nil, err
	}
	roots, err := parseFile(*rootsFile)
	if err != nil {
		return nil, err
	}
	if err := verifyPath(path, roots, *dns, usages...); err != nil {
		return nil, err
	}
	return map[string]any{"verified": true}, nil
}

func parseFile(path string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseAll(string(text))
}
