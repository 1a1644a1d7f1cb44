package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lamina/node/api"
)

// follow asks for a stream and hands over the tokens as they come; it returns the route that was told and how it ended.
func (p *proc) follow(r api.GenerateRequest, token func(id int32)) (route string, err error) {
	r.Stream = true
	body, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	resp, err := http.Post("http://"+p.http+"/v1/infer", "application/json", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	route = resp.Header.Get("Lamina-Route")
	sc := bufio.NewScanner(resp.Body)
	for sc.Scan() {
		data, ok := strings.CutPrefix(sc.Text(), "data: ")
		if !ok {
			continue
		}
		var e api.GenerateEvent
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return route, fmt.Errorf("%w: %s", err, data)
		}
		for _, t := range e.Tokens {
			token(t.ID)
		}
		if e.Error != nil {
			return route, fmt.Errorf("%s", e.Error.Message)
		}
		if e.FinishReason != "" {
			return route, nil
		}
	}
	return route, fmt.Errorf("the stream ended without an end: %w", sc.Err())
}

// kill -9 of each node in turn, in the middle of streams: with two replicas each stream goes on with the tokens of a cluster
// that nothing happens to, and the node, started again, serves again.
func TestStreamsOutliveKilledProcesses(t *testing.T) {
	file := model(t, smollm2)
	nodes := startCluster(t, 4)
	nodes[0].must("add", "smollm2", file, "--stages", "2", "--replicas", "2")
	var list []api.GenerateRequest
	for i := range 6 {
		seed, temp := uint64(i), float32(i%2)
		list = append(list, api.GenerateRequest{Model: "smollm2", Prompt: fmt.Sprintf("A story about the number %d:", i),
			Options: api.Options{MaxTokens: 60, Temperature: &temp, Seed: &seed, IgnoreEOS: true}})
	}
	twoReady(t, nodes[0])
	want := streams(t, nodes[:1], list, nil)
	for _, victim := range nodes {
		var gateways []*proc
		for _, p := range nodes {
			if p != victim {
				gateways = append(gateways, p)
			}
		}
		got := streams(t, gateways, list, victim.kill)
		for i := range list {
			if !slices.Equal(got[i], want[i]) {
				t.Errorf("%s was killed: request %d gave %v, undisturbed %v", victim.name, i, got[i], want[i])
			}
		}
		victim.start("")
		twoReady(t, victim)
	}
}

// streams runs all requests at once and calls disturb in the middle of the answers.
func streams(t *testing.T, gateways []*proc, list []api.GenerateRequest, disturb func()) [][]int32 {
	t.Helper()
	got := make([][]int32, len(list))
	var tokens atomic.Int32
	middle := make(chan struct{})
	var wg sync.WaitGroup
	for i, r := range list {
		wg.Go(func() {
			p := gateways[i%len(gateways)]
			route, err := p.follow(r, func(id int32) {
				got[i] = append(got[i], id)
				if tokens.Add(1) == int32(20*len(list)) {
					close(middle)
				}
			})
			if err != nil {
				t.Errorf("request %d at %s over %s, after %d tokens: %v\n%s", i, p.name, route, len(got[i]), err, p.log)
			}
		})
	}
	if disturb != nil {
		select {
		case <-middle:
			disturb()
		case <-time.After(time.Minute):
			t.Error("the streams do not come to their middle")
		}
	}
	wg.Wait()
	return got
}

// twoReady waits until the node sees both replicas ready.
func twoReady(t *testing.T, p *proc) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; <-time.After(50 * time.Millisecond) {
		out := p.must("ps", "--json")
		if strings.Count(strings.ReplaceAll(out, " ", ""), `"phase":"ready"`) == 2 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not both replicas are ready: %s", out)
		}
	}
}
