package main

import (
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"time"

	"istio.io/istio/pkg/security"
	"istio.io/istio/security/pkg/nodeagent/cache"
)

// agent runs the sidecar agent's secret manager on top of its CA client: a workload certificate and
// ROOTCA as Envoy would get them by SDS, then one renewal by the agent's own timer.
func agent(args []string) (any, error) {
	set := flag.NewFlagSet("agent", flag.ExitOnError)
	var at server
	at.flags(set)
	tokenFile := set.String("token-file", "", "the workload's token")
	trustDomain := set.String("trust-domain", "cluster.local", "")
	namespace := set.String("namespace", "", "")
	account := set.String("service-account", "", "")
	ecdsa := set.Bool("ecdsa", false, "an ECDSA key instead of RSA")
	_ = set.Parse(args)

	options := at.options(*tokenFile, "")
	options.TrustDomain = *trustDomain
	options.WorkloadNamespace = *namespace
	options.ServiceAccount = *account
	options.WorkloadRSAKeySize = 2048
	if *ecdsa {
		options.ECCSigAlg, options.ECCCurve = "ECDSA", "P256"
	}
	options.SecretTTL = 24 * time.Hour
	// The whole life but 1/40,000 of it is grace: the timer fires about two seconds after issue.
	options.SecretRotationGracePeriodRatio = 1 - 1.0/40_000
	client, err := at.citadel(options, "", "")
	if err != nil {
		return nil, err
	}
	manager, err := cache.NewSecretManagerClient(client, options)
	if err != nil {
		return nil, err
	}
	defer manager.Close()
	renew := make(chan struct{}, 16)
	manager.RegisterSecretHandler(func(name string) {
		if name == security.WorkloadKeyCertResourceName {
			renew <- struct{}{}
		}
	})
	identity := fmt.Sprintf("spiffe://%s/ns/%s/sa/%s", *trustDomain, *namespace, *account)
	first, err := secret(manager, identity)
	if err != nil {
		return nil, err
	}
	select {
	case <-renew:
	case <-time.After(30 * time.Second):
		return nil, errors.New("the agent did not renew")
	}
	second, err := secret(manager, identity)
	if err != nil {
		return nil, err
	}
	if first == second {
		return nil, errors.New("the renewed certificate has the old one's serial")
	}
	return map[string]any{"serials": []string{first, second}}, nil
}

// secret takes what Envoy would take and checks that the parts go together.
func secret(manager *cache.SecretManagerClient, identity string) (string, error) {
	own, err := manager.GenerateSecret(security.WorkloadKeyCertResourceName)
	if err != nil {
		return "", err
	}
	root, err := manager.GenerateSecret(security.RootCertReqResourceName)
	if err != nil {
		return "", err
	}
	path, err := parseAll(string(own.CertificateChain))
	if err != nil {
		return "", fmt.Errorf("the chain for Envoy: %w", err)
	}
	roots, err := parseAll(string(root.RootCert))
	if err != nil {
		return "", fmt.Errorf("ROOTCA: %w", err)
	}
	if err := verifyPath(path, roots, "", x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth); err != nil {
		return "", err
	}
	if len(path[0].URIs) != 1 || path[0].URIs[0].String() != identity {
		return "", fmt.Errorf("%v instead of %s", path[0].URIs, identity)
	}
	return path[0].SerialNumber.Text(16), nil
}
