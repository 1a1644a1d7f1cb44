package nodetest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lamina/shard/gguf"
	"lamina/shard/tiny"
)

// web is an HTTP client of the cluster's nodes.
func web(c *Cluster) *http.Client {
	host := c.Net.Host("client")
	return &http.Client{Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, addr string) (net.Conn, error) { return host.Dial(ctx, addr) },
		DisableKeepAlives: true,
	}}
}

// sse is what came of a stream: the tokens, the number of the last event, and whether it came to its end.
type sse struct {
	tokens []int32
	last   int
	whole  bool
	shadow string
}

// read takes events until the stream ends, or until each has been called with the count of events and says stop.
func (s *sse) read(body io.Reader, stop func(events int) bool) error {
	in := bufio.NewScanner(body)
	for events := 0; in.Scan(); {
		line := in.Text()
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			n, err := strconv.Atoi(id)
			if err != nil || n != s.last+1 {
				return fmt.Errorf("event %q after %d", id, s.last)
			}
			s.last = n
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		var e struct {
			Type   string
			Tokens []struct{ ID int32 }
			Error  *struct{ Message string }
		}
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return err
		}
		if e.Error != nil {
			return fmt.Errorf("the stream ends with %s", e.Error.Message)
		}
		for _, t := range e.Tokens {
			s.tokens = append(s.tokens, t.ID)
		}
		s.whole = e.Type == "end"
		if events++; stop != nil && stop(events) {
			return nil
		}
	}
	return in.Err()
}

func (s *sse) ask(c *Cluster, i int, method, path, body string, headers map[string]string, stop func(int) bool) error {
	req, err := http.NewRequestWithContext(c.T.Context(), method, "http://"+c.cfgs[i].HTTP+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	if body == "" {
		req.Body = http.NoBody
	}
	req.Header.Set("Content-Type", "application/json")
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	resp, err := web(c).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("%s: %s", resp.Status, text)
	}
	if v := resp.Header.Get("Lamina-Shadow"); v != "" {
		s.shadow = v
	}
	return s.read(resp.Body, stop)
}

// The gateway dies in the middle of a stream. The client asks another node, any, for the rest and gets exactly that, also when
// that node dies too.
func TestGatewayDies(t *testing.T) {
	file := tiny.Llama(tiny.Config{Layers: 4, Seed: 31})
	const body = `{"model":"m","prompt":"the gateway will be gone","stream":true,"options":{"seed":7,"temperature":1,"max_tokens":24,"ignore_eos":true}}`
	synctest.Test(t, func(t *testing.T) {
		c := Start(t, 4)
		c.Add(0, "m", file, 2, 2)
		voters(c, 3)
		settled(c, "m", 2)
		var want sse
		if err := want.ask(c, 0, "POST", "/v1/infer", body, nil, nil); err != nil || !want.whole || len(want.tokens) != 24 {
			c.Fatalf("undisturbed: %+v %v", want, err)
		}
		c.Net.Delay(2 * time.Millisecond)
		for round := range 12 {
			rng := rand.New(rand.NewPCG(uint64(round), 1))
			order := rng.Perm(4)
			id := fmt.Sprint("round-", round)
			var got sse
			at, down := rng.IntN(want.last-1), order[0]
			err := got.ask(c, down, "POST", "/v1/infer", body, map[string]string{"X-Request-Id": id}, func(events int) bool {
				if events == 1 && round%2 == 0 { // the node that keeps the record may be slow to be seen
					c.Say("shadow " + got.shadow)
				}
				if events > at {
					c.Kill(down)
					return true
				}
				return false
			})
			if got.shadow == "" || err != nil {
				c.Fatalf("round %d: kept at %q, %v", round, got.shadow, err)
			}
			for try := 1; !got.whole; try++ {
				node := order[1+try%3]
				if c.Nodes[node] == nil {
					continue
				}
				if err := got.ask(c, node, "GET", "/v1/infer/"+id, "", map[string]string{"Last-Event-ID": strconv.Itoa(got.last)}, nil); err != nil || try > 20 {
					c.Fatalf("round %d: resume at %s after event %d: %v", round, c.cfgs[node].Name, got.last, err)
				}
			}
			if !slices.Equal(got.tokens, want.tokens) || got.last != want.last {
				c.Fatalf("round %d: killed after event %d: %v\nwant %v", round, at, got.tokens, want.tokens)
			}
			c.Up(down)
			settled(c, "m", 2)
		}
	})
}

// response is what a test looks at of a response.
type response struct {
	ID, Status string
	Output     []struct{ Content []struct{ Text string } }
}

func (s *sse) object(c *Cluster, i int, method, path, body string) (o response, err error) {
	req, err := http.NewRequestWithContext(c.T.Context(), method, "http://"+c.cfgs[i].HTTP+path, strings.NewReader(body))
	if err != nil {
		return o, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := web(c).Do(req)
	if err != nil {
		return o, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, data)
	}
	if err == nil {
		err = json.Unmarshal(data, &o)
	}
	return o, err
}

// events reads a response's stream: the data of each event by its number, until the stream ends or stop says so.
func events(c *Cluster, i int, path string, stop func(n int) bool) (out []string, err error) {
	req, err := http.NewRequestWithContext(c.T.Context(), http.MethodGet, "http://"+c.cfgs[i].HTTP+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := web(c).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	in := bufio.NewScanner(resp.Body)
	for in.Scan() {
		if data, ok := strings.CutPrefix(in.Text(), "data: "); ok {
			if out = append(out, data); stop != nil && stop(len(out)) {
				return out, nil
			}
		}
	}
	return out, in.Err()
}

// A response in the background is asked for at any node, while it runs and after; when its node dies another takes over, and who
// follows it there sees the same events.
func TestBackgroundOutlivesItsNode(t *testing.T) {
	file := tiny.Llama(tiny.Config{Layers: 4, Seed: 33, Extra: []gguf.Pair{{Key: "tokenizer.chat_template", Value: gguf.String("{% for m in messages %}{{ m.content }}{% endfor %}")}}})
	const body = `{"model":"m","input":"it goes on","background":true,"seed":5,"max_output_tokens":30}`
	synctest.Test(t, func(t *testing.T) {
		c := Start(t, 4)
		c.Add(0, "m", file, 2, 2)
		voters(c, 3)
		settled(c, "m", 2)
		c.Net.Delay(2 * time.Millisecond)
		var s sse
		for round := range 8 {
			at := round % 4
			o, err := s.object(c, at, "POST", "/v1/responses", body)
			if err != nil {
				c.Fatalf("round %d: %v", round, err)
			}
			path := "/v1/responses/" + o.ID
			elsewhere := (at + 1) % 4
			seen, err := events(c, elsewhere, path+"?stream=true", func(n int) bool {
				if n == 4+round {
					c.Kill(at)
				}
				return false
			})
			if err != nil || len(seen) < 10 || !strings.Contains(seen[len(seen)-1], `"type":"response.`) {
				c.Fatalf("round %d: followed at another node: %d events, %v", round, len(seen), err)
			}
			third := (at + 2) % 4
			again, err := events(c, third, path+"?stream=true", nil)
			if err != nil || !slices.Equal(again, seen) {
				c.Fatalf("round %d: at a third node\n%s\nwant\n%s\n%v", round, strings.Join(again, "\n"), strings.Join(seen, "\n"), err)
			}
			got, err := s.object(c, third, "GET", path, "")
			if err != nil || got.Status != "completed" && got.Status != "incomplete" || got.Output[0].Content[0].Text == "" {
				c.Fatalf("round %d: %+v %v", round, got, err)
			}
			c.Up(at)
			settled(c, "m", 2)
		}
	})
}
