package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Ask is a request for a stream.
type Ask struct {
	Model       string
	Prompt      string
	Max         int
	Temperature float64
	Seed        int
	ID          string // X-Request-Id; empty: the node's
}

// Answer is what came of it.
type Answer struct {
	Tokens []int
	At     []time.Time // of each token
	Last   int         // number of the last event
	Whole  bool        // it came to its end
	Asked  time.Time
	Route  string
}

// First is the time to the first token, and Gap the longest pause after it.
func (a *Answer) First() time.Duration {
	if len(a.At) == 0 {
		return 0
	}
	return a.At[0].Sub(a.Asked)
}

// Gap is the longest pause between two tokens.
func (a *Answer) Gap() (most time.Duration) {
	for i := 1; i < len(a.At); i++ {
		most = max(most, a.At[i].Sub(a.At[i-1]))
	}
	return most
}

// web has no kept connections: each request finds out anew who lives.
var web = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: time.Second}).DialContext}}

// Stream asks a node and takes the stream into a. onToken, if there is one, is called for each token with the number of tokens so far.
func (c *Cluster) Stream(ctx context.Context, p *Node, q Ask, a *Answer, onToken func(n int)) error {
	body, err := json.Marshal(map[string]any{
		"model": q.Model, "prompt": q.Prompt, "stream": true,
		"options": map[string]any{"max_tokens": q.Max, "temperature": q.Temperature, "seed": q.Seed, "ignore_eos": true},
	})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.HTTP()+"/v1/infer", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if q.ID != "" {
		req.Header.Set("X-Request-Id", q.ID)
	}
	a.Asked = time.Now()
	return c.take(req, a, onToken)
}

// Resume asks a node for the rest of a stream.
func (c *Cluster) Resume(ctx context.Context, p *Node, id string, a *Answer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.HTTP()+"/v1/infer/"+id, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Last-Event-ID", strconv.Itoa(a.Last))
	return c.take(req, a, nil)
}

func (c *Cluster) take(req *http.Request, a *Answer, onToken func(n int)) error {
	req.Header.Set("Authorization", "Bearer "+c.Key())
	resp, err := web.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<12))
		return fmt.Errorf("%s: %s", resp.Status, text)
	}
	a.Route = resp.Header.Get("Lamina-Route")
	in := bufio.NewScanner(resp.Body)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		if err := a.line(in.Text(), onToken); err != nil {
			return err
		}
	}
	if err := in.Err(); err != nil {
		return err
	}
	if !a.Whole {
		return io.ErrUnexpectedEOF
	}
	return nil
}

func (a *Answer) line(line string, onToken func(n int)) error {
	if id, ok := strings.CutPrefix(line, "id: "); ok {
		n, err := strconv.Atoi(id)
		if err != nil || n != a.Last+1 {
			return fmt.Errorf("event %q comes after event %d", id, a.Last)
		}
		a.Last = n
	}
	data, ok := strings.CutPrefix(line, "data: ")
	if !ok {
		return nil
	}
	var e struct {
		Type   string
		Tokens []struct{ ID int }
		Error  *struct{ Code, Message string }
	}
	if err := json.Unmarshal([]byte(data), &e); err != nil {
		return err
	}
	if e.Error != nil {
		return fmt.Errorf("the stream ends with %s: %s", e.Error.Code, e.Error.Message)
	}
	for _, t := range e.Tokens {
		a.Tokens, a.At = append(a.Tokens, t.ID), append(a.At, time.Now())
		if onToken != nil {
			onToken(len(a.Tokens))
		}
	}
	a.Whole = a.Whole || e.Type == "end"
	return nil
}

// Quantile returns the q-th part of durations, 1 being the longest.
func Quantile(list []time.Duration, q float64) time.Duration {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
