// kubeconfig prints what client-go makes of kubeconfigs: where a request goes, how TLS is verified, and
// what the request presents. Its arguments are pairs of a file and a context, which may be empty; its
// output is one JSON object for each on a line. Nothing is sent.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"strings"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

type answer struct {
	Error       string              `json:"error,omitempty"`
	URL         string              `json:"url,omitempty"`
	ServerName  string              `json:"serverName,omitempty"`
	Insecure    bool                `json:"insecure,omitempty"`
	Authorities []string            `json:"authorities"`
	Client      string              `json:"client,omitempty"`
	Proxy       string              `json:"proxy,omitempty"`
	Headers     map[string][]string `json:"headers"`
	Exec        string              `json:"exec,omitempty"`
}

type recorder struct{ seen *http.Request }

func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	r.seen = request
	return &http.Response{StatusCode: 200, Body: http.NoBody, Request: request}, nil
}

func read(file, context string) (*answer, error) {
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: file}
	overrides := &clientcmd.ConfigOverrides{CurrentContext: context}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides).ClientConfig()
	if err != nil {
		return nil, err
	}
	found := &answer{Authorities: []string{}, Headers: map[string][]string{}}
	if config.ExecProvider != nil {
		// It would run, unless there is another credential.
		if config.BearerToken == "" && config.BearerTokenFile == "" && config.Username == "" &&
			config.CertFile == "" && len(config.CertData) == 0 {
			found.Exec = config.ExecProvider.Command
		}
		config.ExecProvider = nil
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, err
	}
	base.Path = strings.TrimSuffix(base.Path, "/") + "/version"
	tls, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, err
	}
	found.URL = base.String()
	found.Insecure = config.Insecure
	found.ServerName = base.Hostname()
	if config.ServerName != "" {
		found.ServerName = config.ServerName
	}
	if err := rest.LoadTLSFiles(config); err != nil {
		return nil, err
	}
	for rest := config.CAData; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			found.Authorities = append(found.Authorities, digest(block.Bytes))
		}
	}
	if tls != nil && tls.GetClientCertificate != nil {
		certificate, err := tls.GetClientCertificate(nil)
		if err != nil {
			return nil, err
		}
		if len(certificate.Certificate) > 0 {
			found.Client = digest(certificate.Certificate[0])
		}
	}
	recorder := &recorder{}
	wrapped, err := rest.HTTPWrappersForConfig(config, recorder)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequest(http.MethodGet, base.String(), nil)
	if err != nil {
		return nil, err
	}
	if _, err := wrapped.RoundTrip(request); err != nil {
		return nil, err
	}
	for name, values := range recorder.seen.Header {
		if name != "User-Agent" {
			found.Headers[strings.ToLower(name)] = values
		}
	}
	proxy := config.Proxy
	if proxy == nil {
		proxy = utilnet.NewProxierWithNoProxyCIDR(http.ProxyFromEnvironment)
	}
	address, err := proxy(recorder.seen)
	if err != nil {
		return nil, err
	}
	if address != nil {
		found.Proxy = address.String()
	}
	return found, nil
}

func digest(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

func main() {
	out := json.NewEncoder(os.Stdout)
	for rest := os.Args[1:]; len(rest) >= 2; rest = rest[2:] {
		found, err := read(rest[0], rest[1])
		if err != nil {
			found = &answer{Error: err.Error(), Authorities: []string{}, Headers: map[string][]string{}}
		}
		if err := out.Encode(found); err != nil {
			panic(err)
		}
	}
}
