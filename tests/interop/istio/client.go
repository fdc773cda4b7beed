package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	pb "istio.io/api/security/v1alpha1"
	"istio.io/istio/pkg/security"
	"istio.io/istio/security/pkg/credentialfetcher/plugin"
	"istio.io/istio/security/pkg/nodeagent/caclient/providers/citadel"
)

// options are what a sidecar's agent would hand to its client: the token is read from a file again
// for each call.
func (s *server) options(tokenFile, signer string) *security.Options {
	return &security.Options{
		CAEndpoint:    s.address,
		CAEndpointSAN: s.name,
		ClusterID:     "Kubernetes",
		CertSigner:    signer,
		CredFetcher:   plugin.CreateTokenPlugin(tokenFile),
	}
}

// citadel makes Istio's own client. A client certificate is shown when both files are named.
func (s *server) citadel(options *security.Options, certFile, keyFile string) (*citadel.CitadelClient, error) {
	return citadel.NewCitadelClient(options, &citadel.TLSOptions{
		RootCert: s.roots,
		Cert:     certFile,
		Key:      keyFile,
	})
}

// raw makes the call by the generated stub, for what the Go client never sends: ztunnel's
// ImpersonatedIdentity, an authorization header of another form.
func (s *server) raw(csr string, ttl int64, fields, headers map[string]string) ([]string, error) {
	pem, err := os.ReadFile(s.roots)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", s.roots)
	}
	config := &tls.Config{RootCAs: pool, ServerName: s.name, MinVersion: tls.VersionTLS13}
	connection, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	request := &pb.IstioCertificateRequest{Csr: csr, ValidityDuration: ttl}
	if len(fields) > 0 {
		request.Metadata = &structpb.Struct{Fields: map[string]*structpb.Value{}}
		for name, value := range fields {
			request.Metadata.Fields[name] = structpb.NewStringValue(value)
		}
	}
	ctx := context.Background()
	for name, value := range headers {
		ctx = metadata.AppendToOutgoingContext(ctx, name, value)
	}
	response, err := pb.NewIstioCertificateServiceClient(connection).CreateCertificate(ctx, request)
	if err != nil {
		return nil, err
	}
	return response.CertChain, nil
}

// The client wraps the status with %v, so that the code survives only in its text.
var codeInText = regexp.MustCompile(`code = (\w+) desc = (?s:(.*))`)

// code is the gRPC code and message in an error of either client; "Client" for one of its own.
func code(err error) (string, string) {
	if err == nil {
		return "OK", ""
	}
	if found := codeInText.FindStringSubmatch(err.Error()); found != nil {
		return found[1], found[2]
	}
	var of interface{ GRPCStatus() *status.Status }
	if errors.As(err, &of) {
		return of.GRPCStatus().Code().String(), of.GRPCStatus().Message()
	}
	return "Client", strings.TrimSpace(err.Error())
}
