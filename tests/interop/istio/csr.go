package main

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"istio.io/istio/security/pkg/pki/util"
)

// request is a CSR with the key it was made for.
type request struct {
	csr string
	key string
	// public is the key that the certificate must carry.
	public crypto.PublicKey
}

// newRequest makes a CSR with Istio's own code, as the agent does: subject O="" and one URI SAN.
func newRequest(kind, identity string) (*request, error) {
	options := util.CertOptions{Host: identity, PKCS8Key: true}
	switch kind {
	case "rsa-2048", "":
		options.RSAKeySize = 2048
	case "rsa-4096":
		options.RSAKeySize = 4096
	case "ecdsa-p256":
		options.ECSigAlg, options.ECCCurve = util.EcdsaSigAlg, util.P256Curve
	case "ecdsa-p384":
		options.ECSigAlg, options.ECCCurve = util.EcdsaSigAlg, util.P384Curve
	default:
		return nil, fmt.Errorf("no such kind of key: %q", kind)
	}
	csr, key, err := util.GenCSR(options)
	if err != nil {
		return nil, err
	}
	made := &request{csr: string(csr), key: string(key)}
	made.public, err = publicKey(csr)
	return made, err
}

func publicKey(csr []byte) (crypto.PublicKey, error) {
	block, _ := pem.Decode(csr)
	if block == nil {
		return nil, fmt.Errorf("the CSR is not PEM")
	}
	parsed, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	return parsed.PublicKey, nil
}
