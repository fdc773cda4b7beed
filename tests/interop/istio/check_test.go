package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "istio.io/api/security/v1alpha1"
)

const identity = "spiffe://cluster.local/ns/foo/sa/bar"

// scratch is a CA that answers as the contract says, so that the driver and its checks are
// themselves tested: a check that never fails proves nothing.
type scratch struct {
	pb.UnimplementedIstioCertificateServiceServer
	key    *ecdsa.PrivateKey
	root   *x509.Certificate
	tamper func(*x509.Certificate)
}

func newScratch(t *testing.T) *scratch {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "scratch"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &scratch{key: key, root: root}
}

func (s *scratch) sign(public any, change func(*x509.Certificate)) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 150))
	if err != nil {
		return nil, err
	}
	name, err := url.Parse(identity)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: serial.SetBit(serial, 149, 1), URIs: []*url.URL{name},
		NotBefore: time.Now().Add(-2 * time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(leaf)
	}
	return x509.CreateCertificate(rand.Reader, leaf, s.root, public, s.key)
}

func (s *scratch) CreateCertificate(ctx context.Context, in *pb.IstioCertificateRequest) (*pb.IstioCertificateResponse, error) {
	headers, _ := metadata.FromIncomingContext(ctx)
	if token := strings.Join(headers.Get("authorization"), ""); token != "Bearer good" {
		return nil, status.Error(codes.Unauthenticated, "no such caller")
	}
	public, err := publicKey([]byte(in.Csr))
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	der, err := s.sign(public, s.tamper)
	if err != nil {
		return nil, err
	}
	return &pb.IstioCertificateResponse{CertChain: []string{text(der), text(s.root.Raw)}}, nil
}

func text(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func write(t *testing.T, name, content string) string {
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (s *scratch) serve(t *testing.T) server {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := s.sign(key.Public(), func(leaf *x509.Certificate) { leaf.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} })
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serving := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(
		&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})))
	pb.RegisterIstioCertificateServiceServer(serving, s)
	go func() { _ = serving.Serve(listener) }()
	t.Cleanup(serving.Stop)
	return server{address: listener.Addr().String(), roots: write(t, "roots.pem", text(s.root.Raw))}
}

func TestCodesAndChecks(t *testing.T) {
	ca := newScratch(t)
	at := ca.serve(t)
	good, bad := write(t, "good", "good\n"), write(t, "bad", "bad")
	one := func(ask call) *answer {
		ask.Identity, ask.Key = identity, "ecdsa-p256"
		got, err := at.call(ask)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, ask := range []call{{TokenFile: good}, {Client: "raw", Headers: map[string]string{"authorization": "Bearer good"}}} {
		if got := one(ask); got.Code != "OK" || got.Problem != "" || got.Facts.Roots != 1 {
			t.Fatalf("%+v", got)
		}
	}
	for _, ask := range []call{{TokenFile: bad}, {}, {Client: "raw"}} {
		if got := one(ask); got.Code != "Unauthenticated" || got.Message != "no such caller" {
			t.Fatalf("%+v", got)
		}
	}
	for name, change := range map[string]func(*x509.Certificate){
		"another name":    func(c *x509.Certificate) { c.URIs[0].Path = "/ns/foo/sa/evil" },
		"a second name":   func(c *x509.Certificate) { c.DNSNames = []string{"evil.example"} },
		"a subject":       func(c *x509.Certificate) { c.Subject.CommonName = "evil" },
		"a CA":            func(c *x509.Certificate) { c.IsCA = true },
		"no client usage": func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] },
		"outlives issuer": func(c *x509.Certificate) { c.NotAfter = time.Now().Add(72 * time.Hour) },
		"a small serial":  func(c *x509.Certificate) { c.SerialNumber = big.NewInt(7) },
	} {
		ca.tamper = change
		if got := one(call{TokenFile: good}); got.Problem == "" {
			t.Errorf("%s: not refused by the check", name)
		}
	}
}

func TestIssueAndAgent(t *testing.T) {
	at := newScratch(t).serve(t)
	good := write(t, "good", "good")
	workloads := write(t, "workloads.json", `[{"identity":"`+identity+`","token_file":"`+good+`"}]`)
	witness := filepath.Join(t.TempDir(), "witness")
	flags := []string{"-address", at.address, "-roots", at.roots}
	result, err := issue(append(flags, "-workloads", workloads, "-count", "20", "-out", witness))
	if err != nil {
		t.Fatal(err)
	}
	if got := result.(*tally); got.Issued != 20 || len(got.Serials) != 20 || len(got.Problems) != 0 {
		t.Fatalf("%+v", got)
	}
	if lines, err := os.ReadFile(witness); err != nil || strings.Count(string(lines), "\n") != 20 {
		t.Fatal("the witness does not hold each chain", err)
	}
	if _, err := agent(append(flags, "-token-file", good, "-namespace", "foo", "-service-account", "bar", "-ecdsa")); err != nil {
		t.Fatal(err)
	}
}
