package main

import (
	"encoding/json"
	"flag"
	"os"
)

// call is one request, as the Rust tests spell it in JSON on standard input.
type call struct {
	Name string `json:"name"`
	// Client is "citadel" (Istio's own, the default) or "raw" (the generated stub).
	Client string `json:"client"`
	// TokenFile is read by the client as the agent's token; none when empty.
	TokenFile string `json:"token_file"`
	CertFile  string `json:"cert_file"`
	KeyFile   string `json:"key_file"`
	// Key and Identity make the CSR with Istio's code; CSR, when given, is sent instead.
	Key      string `json:"key"`
	Identity string `json:"identity"`
	CSR      string `json:"csr"`
	// Expected is the identity that must be certified; Identity when empty.
	Expected string            `json:"expected"`
	TTL      int64             `json:"ttl"`
	Signer   string            `json:"signer"`
	Fields   map[string]string `json:"fields"`
	Headers  map[string]string `json:"headers"`
}

// answer is what came of a call. Problem says how a chain that came offends the contract.
type answer struct {
	Name    string   `json:"name"`
	Code    string   `json:"code"`
	Message string   `json:"message"`
	Chain   []string `json:"chain"`
	Key     string   `json:"key"`
	Facts   *facts   `json:"facts"`
	Problem string   `json:"problem"`
}

// calls makes each call of a list in order and reports code, message and chain.
func calls(args []string) (any, error) {
	set := flag.NewFlagSet("calls", flag.ExitOnError)
	var at server
	at.flags(set)
	_ = set.Parse(args)

	var list []call
	if err := json.NewDecoder(os.Stdin).Decode(&list); err != nil {
		return nil, err
	}
	answers := make([]answer, 0, len(list))
	for _, one := range list {
		got, err := at.call(one)
		if err != nil {
			return nil, err
		}
		answers = append(answers, *got)
	}
	return answers, nil
}

func (s *server) call(one call) (*answer, error) {
	made := &request{csr: one.CSR}
	var err error
	if one.CSR == "" {
		made, err = newRequest(one.Key, one.Identity)
	} else if public, problem := publicKey([]byte(one.CSR)); problem == nil {
		made.public = public
	}
	if err != nil {
		return nil, err
	}
	var chain []string
	if one.Client == "raw" {
		chain, err = s.raw(made.csr, one.TTL, one.Fields, one.Headers)
	} else {
		client, problem := s.citadel(s.options(one.TokenFile, one.Signer), one.CertFile, one.KeyFile)
		if problem != nil {
			return nil, problem
		}
		defer client.Close()
		chain, err = client.CSRSign([]byte(made.csr), one.TTL)
	}
	got := &answer{Name: one.Name, Chain: chain, Key: made.key}
	got.Code, got.Message = code(err)
	if err == nil {
		expected := one.Expected
		if expected == "" {
			expected = one.Identity
		}
		got.Facts, err = checkAnswer(chain, expected, made.public)
		if err != nil {
			got.Problem = err.Error()
		}
	}
	return got, nil
}
