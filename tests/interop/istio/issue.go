package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// workload is one caller: who it is, and the file with its token.
type workload struct {
	Identity  string `json:"identity"`
	TokenFile string `json:"token_file"`
}

// tally is what came of a run. Codes counts the failures by gRPC code.
type tally struct {
	Issued   int            `json:"issued"`
	Serials  []string       `json:"serials"`
	Codes    map[string]int `json:"codes"`
	Problems []string       `json:"problems"`
	Millis   int64          `json:"millis"`

	mutex sync.Mutex
	out   *os.File
}

// issue asks for many certificates at once, each worker with a client of its own, and checks every
// answer. With -out each chain is appended to a file, as soon as it has come, as one JSON line: the
// outside witness of what the CA has released.
func issue(args []string) (any, error) {
	set := flag.NewFlagSet("issue", flag.ExitOnError)
	var at server
	at.flags(set)
	workloadsFile := set.String("workloads", "", "JSON file: a list of {identity, token_file}")
	count := set.Int("count", 100, "certificates to ask for")
	span := set.Duration("for", 0, "go on for this long instead of up to a count; failures are counted and borne")
	workers := set.Int("workers", 8, "requests in flight")
	kind := set.String("key", "ecdsa-p256", "rsa-2048, rsa-4096, ecdsa-p256 or ecdsa-p384")
	ttl := set.Int64("ttl", 86400, "seconds asked for")
	out := set.String("out", "", "file to which the chains are appended")
	reuse := set.Bool("reuse", false, "one key and CSR for each worker, to load the server and not this program")
	_ = set.Parse(args)

	text, err := os.ReadFile(*workloadsFile)
	if err != nil {
		return nil, err
	}
	var workloads []workload
	if err := json.Unmarshal(text, &workloads); err != nil {
		return nil, err
	}
	if len(workloads) == 0 {
		return nil, fmt.Errorf("%s lists no workload", *workloadsFile)
	}
	result := &tally{Codes: map[string]int{}}
	if *out != "" {
		result.out, err = os.OpenFile(*out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, err
		}
		defer result.out.Close()
	}

	tickets := make(chan int)
	begun := time.Now()
	go func() {
		defer close(tickets)
		for i := 0; *span > 0 || i < *count; i++ {
			if *span > 0 && time.Since(begun) > *span {
				return
			}
			tickets <- i
		}
	}()
	var running sync.WaitGroup
	for worker := range *workers {
		own := workloads[worker%len(workloads)]
		running.Go(func() { at.work(own, *kind, *ttl, *reuse, tickets, result) })
	}
	running.Wait()
	result.Millis = time.Since(begun).Milliseconds()
	return result, nil
}

func (s *server) work(own workload, kind string, ttl int64, reuse bool, tickets <-chan int, result *tally) {
	client, err := s.citadel(s.options(own.TokenFile, ""), "", "")
	if err != nil {
		result.fail(err)
		for range tickets {
		}
		return
	}
	defer client.Close()
	var made *request
	for range tickets {
		if made == nil || !reuse {
			if made, err = newRequest(kind, own.Identity); err != nil {
				result.fail(err)
				continue
			}
		}
		chain, err := client.CSRSign([]byte(made.csr), ttl)
		if err != nil {
			result.fail(err)
			continue
		}
		result.keep(chain, own.Identity, made)
	}
}

func (t *tally) fail(err error) {
	name, message := code(err)
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.Codes[name]++
	if len(t.Problems) < 10 {
		t.Problems = append(t.Problems, name+": "+message)
	}
}

func (t *tally) keep(chain []string, identity string, made *request) {
	found, problem := checkAnswer(chain, identity, made.public)
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.Issued++
	if problem != nil {
		t.Codes["CheckFailed"]++
		t.Problems = append(t.Problems, problem.Error())
		return
	}
	t.Serials = append(t.Serials, found.Serial)
	if t.out != nil {
		line, _ := json.Marshal(map[string]string{"identity": identity, "chain": strings.Join(chain[:len(chain)-1], "")})
		if _, err := t.out.Write(append(line, '\n')); err != nil {
			t.Problems = append(t.Problems, err.Error())
		}
	}
}
