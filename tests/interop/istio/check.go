package main

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"
)

// facts of a leaf that the Rust tests assert on.
type facts struct {
	Serial        string   `json:"serial"`
	URIs          []string `json:"uris"`
	NotBefore     int64    `json:"not_before"`
	NotAfter      int64    `json:"not_after"`
	Intermediates int      `json:"intermediates"`
	Roots         int      `json:"roots"`
}

// checkAnswer checks a CA's answer against the contract: the leaf, one PEM for each intermediate,
// and one last element that is the whole root bundle; a chain that Go verifies for both usages;
// the identity, and nothing else, in the certificate.
func checkAnswer(chain []string, identity string, key crypto.PublicKey) (*facts, error) {
	if len(chain) < 2 {
		return nil, fmt.Errorf("%d elements: a leaf and a root bundle at least", len(chain))
	}
	var path []*x509.Certificate
	for i, element := range chain[:len(chain)-1] {
		certificates, err := parseAll(element)
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
		// ztunnel keeps only the first, silently.
		if len(certificates) != 1 {
			return nil, fmt.Errorf("element %d holds %d certificates instead of one", i, len(certificates))
		}
		path = append(path, certificates[0])
	}
	bundle, err := parseAll(chain[len(chain)-1])
	if err != nil {
		return nil, fmt.Errorf("the last element: %w", err)
	}
	for _, root := range bundle {
		if !root.IsCA {
			return nil, fmt.Errorf("the root bundle holds %q, which is no CA", root.Subject)
		}
	}
	if err := verifyPath(path, bundle, "", x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth); err != nil {
		return nil, err
	}
	leaf := path[0]
	if err := checkLeaf(leaf, identity, key); err != nil {
		return nil, err
	}
	for _, issuer := range slices.Concat(path[1:], bundle) {
		if leaf.CheckSignatureFrom(issuer) == nil && leaf.NotAfter.After(issuer.NotAfter) {
			return nil, errors.New("the leaf outlives its issuer")
		}
	}
	return &facts{
		Serial:        hex.EncodeToString(leaf.SerialNumber.Bytes()),
		URIs:          []string{leaf.URIs[0].String()},
		NotBefore:     leaf.NotBefore.Unix(),
		NotAfter:      leaf.NotAfter.Unix(),
		Intermediates: len(path) - 1,
		Roots:         len(bundle),
	}, nil
}

func checkLeaf(leaf *x509.Certificate, identity string, key crypto.PublicKey) error {
	names := len(leaf.DNSNames) + len(leaf.IPAddresses) + len(leaf.EmailAddresses)
	if len(leaf.URIs) != 1 || names != 0 || leaf.URIs[0].String() != identity {
		return fmt.Errorf("names %v and %d others instead of %q alone", leaf.URIs, names, identity)
	}
	if len(leaf.Subject.Names) != 0 {
		return fmt.Errorf("subject %q instead of an empty one", leaf.Subject)
	}
	if !critical(leaf, asn1.ObjectIdentifier{2, 5, 29, 17}) {
		return errors.New("the SAN is not critical, though the subject is empty (RFC 5280, 4.2.1.6)")
	}
	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	if len(leaf.UnknownExtKeyUsage) != 0 || len(leaf.ExtKeyUsage) != 2 ||
		!slices.Contains(leaf.ExtKeyUsage, usages[0]) || !slices.Contains(leaf.ExtKeyUsage, usages[1]) {
		return fmt.Errorf("extended key usage %v instead of server and client", leaf.ExtKeyUsage)
	}
	want := x509.KeyUsageDigitalSignature
	if _, isRSA := key.(*rsa.PublicKey); isRSA {
		want |= x509.KeyUsageKeyEncipherment
	}
	if leaf.KeyUsage != want {
		return fmt.Errorf("key usage %b instead of %b", leaf.KeyUsage, want)
	}
	if leaf.IsCA || !leaf.BasicConstraintsValid {
		return errors.New("basic constraints do not say CA:FALSE")
	}
	if leaf.SerialNumber.Sign() <= 0 || leaf.SerialNumber.BitLen() < 64 || leaf.SerialNumber.BitLen() > 159 {
		return fmt.Errorf("serial of %d bits", leaf.SerialNumber.BitLen())
	}
	if back := time.Since(leaf.NotBefore); back < 0 || back > 10*time.Minute {
		return fmt.Errorf("notBefore is %v back", back)
	}
	if !sameKey(leaf.PublicKey, key) {
		return errors.New("the certificate's key is not the CSR's")
	}
	return nil
}

func sameKey(certified any, asked crypto.PublicKey) bool {
	if key, ok := asked.(interface{ Equal(crypto.PublicKey) bool }); ok {
		return key.Equal(certified)
	}
	return false
}

func critical(certificate *x509.Certificate, oid asn1.ObjectIdentifier) bool {
	return slices.ContainsFunc(certificate.Extensions, func(extension pkix.Extension) bool {
		return extension.Critical && extension.Id.Equal(oid)
	})
}

// verifyPath lets Go build a path from the leaf through the rest to the roots.
func verifyPath(path, roots []*x509.Certificate, dns string, usages ...x509.ExtKeyUsage) error {
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), DNSName: dns}
	for _, root := range roots {
		options.Roots.AddCert(root)
	}
	for _, intermediate := range path[1:] {
		options.Intermediates.AddCert(intermediate)
	}
	for _, usage := range usages {
		options.KeyUsages = []x509.ExtKeyUsage{usage}
		if _, err := path[0].Verify(options); err != nil {
			return fmt.Errorf("go's verifier: %w", err)
		}
	}
	return nil
}

// parseAll reads a PEM text that holds certificates and nothing else.
func parseAll(text string) ([]*x509.Certificate, error) {
	var certificates []*x509.Certificate
	rest := []byte(text)
	for len(rest) > 0 {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("not PEM certificates alone")
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certificates = append(certificates, certificate)
	}
	if len(certificates) == 0 {
		return nil, errors.New("no certificate")
	}
	return certificates, nil
}
