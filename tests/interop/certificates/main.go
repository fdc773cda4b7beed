// Command certificates tells what Go's crypto/x509 makes of certificates and of files of
// certificates. It reads a JSON document and prints one; tests/x509/differential.rs calls it.
package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
)

type input struct {
	// Root is the trust anchor of Certificates, in DER.
	Root []byte `json:"root"`
	// Certificates are CA certificates in DER.
	Certificates [][]byte `json:"certificates"`
	// Files are files of certificates.
	Files [][]byte `json:"files"`
}

type output struct {
	// Parse and Verify hold an error for each certificate, empty without one.
	Parse  []string `json:"parse"`
	Verify []string `json:"verify"`
	// Files holds the SHA-256 of the certificates of each file; null if it cannot be read.
	Files [][]string `json:"files"`
}

func main() {
	var in input
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	roots := x509.NewCertPool()
	if root, err := x509.ParseCertificate(in.Root); err == nil {
		roots.AddCert(root)
	}
	out := output{Parse: []string{}, Verify: []string{}, Files: [][]string{}}
	for _, der := range in.Certificates {
		certificate, err := x509.ParseCertificate(der)
		verified := err
		if err == nil {
			any := []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
			_, verified = certificate.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: any})
		}
		out.Parse = append(out.Parse, text(err))
		out.Verify = append(out.Verify, text(verified))
	}
	for _, file := range in.Files {
		out.Files = append(out.Files, read(file))
	}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// read is what Go programs do: PEM, or else DER.
func read(file []byte) []string {
	var found []string
	for rest := file; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" || len(block.Headers) != 0 {
			return nil
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil
		}
		found = append(found, fingerprint(block.Bytes))
	}
	if found != nil {
		return found
	}
	certificates, err := x509.ParseCertificates(file)
	if err != nil {
		return nil
	}
	for _, certificate := range certificates {
		found = append(found, fingerprint(certificate.Raw))
	}
	return found
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}
