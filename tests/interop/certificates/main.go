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
	// Paths are certification paths in DER: an end entity's certificate, its issuers, the trust anchor.
	Paths [][][]byte `json:"paths"`
	// Files are files of certificates.
	Files [][]byte `json:"files"`
}

type output struct {
	// Verify holds an error for each path, empty without one.
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
	out := output{Verify: []string{}, Files: [][]string{}}
	for _, path := range in.Paths {
		reason := ""
		if err := verify(path); err != nil {
			reason = err.Error()
		}
		out.Verify = append(out.Verify, reason)
	}
	for _, file := range in.Files {
		out.Files = append(out.Files, read(file))
	}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// verify says why the path does not verify for a server or for a client.
func verify(path [][]byte) error {
	var certificates []*x509.Certificate
	for _, der := range path {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		certificates = append(certificates, certificate)
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	last := len(certificates) - 1
	roots.AddCert(certificates[last])
	for _, certificate := range certificates[1:last] {
		intermediates.AddCert(certificate)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		_, err := certificates[0].Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{usage},
		})
		if err != nil {
			return err
		}
	}
	return nil
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
