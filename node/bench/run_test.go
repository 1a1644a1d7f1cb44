package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// memory is a network of pipes, for virtual time.
type memory struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newMemory() *memory { return &memory{conns: make(chan net.Conn), done: make(chan struct{})} }

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.done:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error   { m.once.Do(func() { close(m.done) }); return nil }
func (m *memory) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

func (m *memory) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case m.conns <- theirs:
		return ours, nil
	case <-m.done:
		return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	}
}

// asked is a request's body as a server sees it.
type asked struct {
	Model     string
	Messages  []message
	Prompt    string
	Stream    bool
	MaxTokens int `json:"max_tokens"`
	Options   *struct {
		Usage bool `json:"include_usage"`
	} `json:"stream_options"`
	IgnoreEOS bool `json:"ignore_eos"`
	key       string
	path      string
}

// script is a server that answers by a timetable.
type script struct {
	mu       sync.Mutex
	asked    []asked
	first    time.Duration // to the first token
	gap      time.Duration
	noUsage  bool
	serially chan struct{}                                                  // one request at a time, if set
	instead  func(n int, w http.ResponseWriter, r *http.Request) (did bool) // what happens instead
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v1/models" {
		fmt.Fprint(w, `{"data":[{"id":"first"},{"id":"second"}]}`)
		return
	}
	var a asked
	_ = json.NewDecoder(r.Body).Decode(&a)
	a.key, a.path = r.Header.Get("Authorization"), r.URL.Path
	s.mu.Lock()
	n := len(s.asked)
	s.asked = append(s.asked, a)
	s.mu.Unlock()
	if s.serially != nil && a.MaxTokens > 1 {
		s.serially <- struct{}{}
		defer func() { <-s.serially }()
	}
	if s.instead != nil && s.instead(n, w, r) {
		return
	}
	words := len(strings.Fields(a.Prompt))
	for _, m := range a.Messages {
		words += len(strings.Fields(m.Content))
	}
	usage := fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"prompt_tokens_details":{"cached_tokens":3}}`, words+10, a.MaxTokens)
	time.Sleep(s.first)
	if !a.Stream {
		time.Sleep(s.gap * time.Duration(a.MaxTokens-1))
		fmt.Fprintf(w, `{"choices":[{"message":{"content":"whole"},"text":""}],"usage":%s}`, usage)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	fmt.Fprint(w, "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n")
	for i := range a.MaxTokens {
		if i > 0 {
			time.Sleep(s.gap)
		}
		piece := fmt.Sprintf(`{"choices":[{"delta":{"content":"t%d "}}]}`, i)
		if a.path == "/v1/completions" {
			piece = fmt.Sprintf(`{"choices":[{"text":"t%d "}]}`, i)
		}
		fmt.Fprintf(w, ": keep alive\n\ndata: %s\n\n", piece)
		w.(http.Flusher).Flush()
	}
	if !s.noUsage {
		fmt.Fprintf(w, "data: {\"choices\":[],\"usage\":%s}\n\n", usage)
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
}

// loads runs a configuration against a script, in virtual time.
func loads(t *testing.T, s *script, change func(*Config), check func(t *testing.T, r *Report, err error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		srv := &http.Server{Handler: s}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(m) }()
		cfg := Default()
		cfg.URL, cfg.Model, cfg.Dial, cfg.Seed, cfg.Warmup, cfg.Answer, cfg.Prompt = "http://server/", "m", m.dial, 1, 0, Fixed(10), Fixed(30)
		cfg.Timeout = time.Minute
		change(&cfg)
		rep, err := Run(t.Context(), cfg)
		srv.Close()
		m.Close()
		<-served
		time.Sleep(time.Minute) // handlers end by themselves
		check(t, rep, err)
	})
}

// about is equality within the histogram's half percent.
func about(got, want float64) bool { return got >= want*.995 && got <= want*1.005 }

func TestClosedLoopMeasures(t *testing.T) {
	s := &script{first: 300 * time.Millisecond, gap: 20 * time.Millisecond}
	told := 0
	loads(t, s, func(c *Config) {
		c.Loads = []Load{{Concurrency: 1}, {Concurrency: 4}}
		c.Requests, c.Warmup, c.Key, c.Model = 8, 2, "secret", ""
		c.Fields = map[string]json.RawMessage{"ignore_eos": json.RawMessage("true")}
		c.Progress = func(s Snapshot) {
			told++
			if s.Want != 8 || s.Running > 4 {
				t.Errorf("%+v", s)
			}
		}
	}, func(t *testing.T, r *Report, err error) {
		if err != nil || len(r.Points) != 2 || r.Model != "first" {
			t.Fatal(r, err)
		}
		for i, seconds := range []float64{8 * .48, 2 * .48} {
			p := r.Points[i]
			if p.Requests != 8 || p.Failed != 0 || !about(p.Seconds, seconds) || !about(p.OutPerSecond, 80/seconds) || p.InTokens != 8*30 || p.CachedTokens != 24 {
				t.Errorf("%+v", p)
			}
			if !about(p.TTFT.P50, 300) || !about(p.TTFT.P99, 300) || !about(p.Gap.P50, 20) || !about(p.Gap.P99, 20) || !about(p.Whole.P99, 480) || !about(p.PerToken.P50, 20) {
				t.Errorf("%+v", p)
			}
			if p.Gap.Count != 8*9 || p.Pieces != 80 || p.Early != 0 || p.TTFTReused != nil {
				t.Errorf("%+v", p)
			}
		}
		if r.Points[0].Answers != r.Points[1].Answers {
			t.Error("the server said the same at both loads, and the digests differ")
		}
		if len(r.Remarks) != 0 {
			t.Errorf("remarks %q", r.Remarks)
		}
	})
	if len(s.asked) != 2+2*(2+8) || told < 10 {
		t.Errorf("%d requests, progress told %d times", len(s.asked), told)
	}
	a := s.asked[5]
	if a.key != "Bearer secret" || a.Model != "first" || !a.Stream || a.Options == nil || !a.Options.Usage || !a.IgnoreEOS || a.MaxTokens != 10 || a.path != "/v1/chat/completions" {
		t.Errorf("%+v", a)
	}
	seen := map[string]bool{}
	for _, a := range s.asked {
		if seen[a.Messages[0].Content] {
			t.Errorf("the prompt %q came twice", a.Messages[0].Content)
		}
		seen[a.Messages[0].Content] = true
	}
}

// A server that does one request a second gets two a second: each waits half a second longer than the one before, and the
// figures say so, also where the number of requests in flight is bounded. A closed loop would call it one second each.
func TestOpenLoopCountsFromWhenDue(t *testing.T) {
	for _, inFlight := range []int{100, 1} {
		s := &script{first: time.Second}
		loads(t, s, func(c *Config) {
			s.serially = make(chan struct{}, 1) // of the bubble's own time
			c.Loads = []Load{{Rate: 2, Even: true}}
			c.Requests, c.InFlight = 10, inFlight
		}, func(t *testing.T, r *Report, err error) {
			p := r.Points[0]
			if err != nil || p.Requests != 10 || p.Failed != 0 || !about(p.Seconds, 10) {
				t.Fatalf("%+v %v", p, err)
			}
			// The request i is due at i/2 and answered at i+1.
			if !about(p.TTFT.Min, 1000) || !about(p.TTFT.Max, 5500) || !about(p.TTFT.P50, 3000) || !about(p.Whole.Max, 5500) {
				t.Errorf("in flight %d: %+v", inFlight, p.TTFT)
			}
			if late := len(r.Remarks) == 1 && strings.Contains(r.Remarks[0], "went out late"); late != (inFlight == 1) {
				t.Errorf("in flight %d: %q", inFlight, r.Remarks)
			}
		})
	}
}

func TestDuration(t *testing.T) {
	for _, l := range []Load{{Concurrency: 3}, {Rate: 1, Even: true}} {
		loads(t, &script{first: 900 * time.Millisecond}, func(c *Config) { c.Loads, c.Duration = []Load{l}, 10*time.Second }, func(t *testing.T, r *Report, err error) {
			// 12 rounds of three begin within 10 s; arrivals are at 0, 1, ... 10 s.
			want := 36
			if l.Rate > 0 {
				want = 11
			}
			if p := r.Points[0]; err != nil || p.Requests != want || p.Seconds < 10 || p.Seconds > 11 {
				t.Errorf("%v: %d requests in %g s, %v", l, p.Requests, p.Seconds, err)
			}
		})
	}
}

// A turn carries what was said before, the server's answers included; its first token is counted apart.
func TestTurns(t *testing.T) {
	for _, api := range []string{Chat, Completions} {
		s := &script{first: 100 * time.Millisecond}
		loads(t, s, func(c *Config) {
			c.API, c.Turns, c.Think, c.Requests, c.Answer = api, 3, time.Second, 6, Fixed(2)
		}, func(t *testing.T, r *Report, err error) {
			p := r.Points[0]
			if err != nil || p.Requests != 6 || p.TTFTReused == nil || p.TTFTFresh.Count != 2 || p.TTFTReused.Count != 4 {
				t.Fatalf("%+v %v", p, err)
			}
			if !about(p.TTFT.P99, 100) || !about(p.Seconds, 6*.1+4) { // pauses are no latency
				t.Errorf("%+v", p)
			}
		})
		first, third := s.asked[2], s.asked[4]
		if api == Completions {
			if third.path != "/v1/completions" || !strings.HasPrefix(third.Prompt, first.Prompt+"\nt0 t1 \n") || strings.Count(third.Prompt, "t1") != 2 {
				t.Errorf("%q after %q", third.Prompt, first.Prompt)
			}
			continue
		}
		if m := third.Messages; len(m) != 5 || m[0] != first.Messages[0] || m[1] != (message{"assistant", "t0 t1 "}) || m[4].Role != "user" || m[4].Content == m[2].Content {
			t.Errorf("%+v", m)
		}
	}
}

func TestSharedPrefixIsCountedApart(t *testing.T) {
	seen := map[string]bool{}
	s := &script{}
	s.instead = func(n int, _ http.ResponseWriter, _ *http.Request) bool {
		start := strings.Join(strings.Fields(s.asked[n].Messages[0].Content)[:10], " ")
		if !seen[start] {
			time.Sleep(time.Second)
		}
		seen[start] = true
		time.Sleep(10 * time.Millisecond)
		return false
	}
	loads(t, s, func(c *Config) { c.Prefix, c.Groups, c.Requests = 50, 2, 20 }, func(t *testing.T, r *Report, err error) {
		p := r.Points[0]
		if err != nil || p.TTFTFresh.Count != 2 || p.TTFTReused.Count != 18 || !about(p.TTFTFresh.P50, 1010) || !about(p.TTFTReused.P99, 10) {
			t.Errorf("%+v %+v %v", p.TTFTFresh, p.TTFTReused, err)
		}
	})
}

// Answers that come whole have no first token; a server that counts nothing is told of.
func TestWholeAnswersAndNoUsage(t *testing.T) {
	loads(t, &script{first: 50 * time.Millisecond, gap: 10 * time.Millisecond}, func(c *Config) { c.Stream = false }, func(t *testing.T, r *Report, err error) {
		p := r.Points[0]
		if err != nil || p.TTFT.Count != 0 || !about(p.Whole.P50, 140) || p.OutTokens != 80 || !strings.Contains(strings.Join(r.Remarks, " "), "no first token") {
			t.Errorf("%+v %v %v", p, r.Remarks, err)
		}
	})
	loads(t, &script{gap: time.Millisecond, noUsage: true}, func(c *Config) { c.Fresh = true }, func(t *testing.T, r *Report, err error) {
		p := r.Points[0]
		if err != nil || p.OutTokens != 80 || p.InTokens != 0 || p.Uncounted != 8 || !strings.Contains(r.Remarks[0], "does not report usage") {
			t.Errorf("%+v %v %v", p, r.Remarks, err)
		}
	})
}

// stream begins a stream with one token.
func stream(w http.ResponseWriter, rest string) {
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"+rest)
	w.(http.Flusher).Flush()
}

// Whatever a server does is counted under its kind with an example, costs bounded memory and time, and leaves the figures of the others alone.
func TestHostileServers(t *testing.T) {
	hijack := func(w http.ResponseWriter) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			c.Close()
		}
	}
	for _, c := range []struct {
		kind, text string
		do         func(w http.ResponseWriter, r *http.Request)
	}{
		{"http 503", "no capacity", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(503)
			fmt.Fprint(w, `{"error":{"message":"no capacity","code":"x"}}`)
		}},
		{"http 404", "404 page not found", func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }},
		{"http 307", "", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://elsewhere/", http.StatusTemporaryRedirect)
		}},
		{"http 500", "500 Internal Server Error: ", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			_, _ = w.Write([]byte(strings.Repeat("\xff\x00é ", 1<<20)))
		}},
		{failSaid, "lost a node", func(w http.ResponseWriter, _ *http.Request) {
			stream(w, "event: error\ndata: {\"error\":{\"message\":\"lost a node\"}}\n\n")
		}},
		{failSaid, "plain", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"error":"plain"}`) }},
		{failCut, "without [DONE] after 1 pieces", func(w http.ResponseWriter, _ *http.Request) { stream(w, "") }},
		{failCut, "EOF", func(w http.ResponseWriter, _ *http.Request) { stream(w, "data: {"); hijack(w) }},
		{failCut, "EOF", func(w http.ResponseWriter, _ *http.Request) { hijack(w) }},
		{failReply, "not JSON", func(w http.ResponseWriter, _ *http.Request) { stream(w, "data: <html>\n\n") }},
		{failReply, "not JSON", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }},
		{failReply, "no choices", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }},
		{failReply, "too long", func(w http.ResponseWriter, _ *http.Request) { stream(w, strings.Repeat("x", maxEvent+1)) }},
		{failReply, "too long", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat(" ", maxEvent+1)) }},
		{failReply, "64 MiB", func(w http.ResponseWriter, r *http.Request) {
			stream(w, "")
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat(":"+strings.Repeat("c", 1000)+"\n", 1000)); err != nil {
					return
				}
			}
		}},
		{failTimeout, "no whole answer in 1m0s", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		{failTimeout, "no whole answer in 1m0s", func(w http.ResponseWriter, r *http.Request) { stream(w, ""); <-r.Context().Done() }},
	} {
		if testing.Short() && c.text == "64 MiB" { // slow under the race detector
			continue
		}
		s := &script{first: 100 * time.Millisecond}
		s.instead = func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n%2 == 0 || n < 2 {
				return false
			}
			c.do(w, r)
			return true
		}
		loads(t, s, func(*Config) {}, func(t *testing.T, r *Report, err error) {
			if err != nil {
				t.Errorf("%s: %v", c.kind, err)
				return
			}
			p := r.Points[0]
			if r.Failed() != 4 || len(p.Errors) != 1 || p.Errors[0].Kind != c.kind || !strings.Contains(p.Errors[0].Example, c.text) || len(p.Errors[0].Example) > 400 {
				t.Errorf("%s: %d failed, %+v", c.kind, p.Failed, p.Errors)
			}
			if p.TTFT.Count != 4 || !about(p.TTFT.P99, 100) || p.OutTokens != 40 {
				t.Errorf("%s: %+v", c.kind, p)
			}
		})
	}
}

// A connection that stays open after [DONE] holds nobody up.
func TestDoneButOpen(t *testing.T) {
	s := &script{}
	s.instead = func(n int, w http.ResponseWriter, r *http.Request) bool {
		stream(w, "data: [DONE]\n\n")
		<-r.Context().Done()
		return true
	}
	loads(t, s, func(c *Config) { c.Requests = 3 }, func(t *testing.T, r *Report, err error) {
		if p := r.Points[0]; err != nil || p.Failed != 0 || p.Whole.Max != 0 || p.Requests != 3 {
			t.Errorf("%+v %v", p, err)
		}
	})
}

func TestNobodyThere(t *testing.T) {
	loads(t, &script{}, func(c *Config) {
		c.Dial = func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: errors.New("refused")}
		}
	}, func(t *testing.T, r *Report, err error) {
		if err == nil || r != nil || !strings.Contains(err.Error(), "first request to http://server/v1/chat/completions failed") || !strings.Contains(err.Error(), "refused") {
			t.Error(r, err)
		}
	})
	// Where the server goes away later, an hour of load ends after some failures.
	s := &script{first: time.Second}
	s.instead = func(n int, w http.ResponseWriter, _ *http.Request) bool {
		if n > 10 {
			w.WriteHeader(502)
		}
		return n > 10
	}
	loads(t, s, func(c *Config) { c.Duration, c.Loads = time.Hour, []Load{{Concurrency: 4}} }, func(t *testing.T, r *Report, err error) {
		if p := r.Points[0]; err != nil || p.GaveUp == "" || p.Failed < giveUpAfter || p.Failed > 2*giveUpAfter || p.Errors[0].Kind != "http 502" {
			t.Errorf("%+v %v", p, err)
		}
	})
}

// Who stops it gets what was measured so far; what ran is no failure.
func TestInterrupted(t *testing.T) {
	for _, l := range []Load{{Concurrency: 2}, {Rate: 4}} {
		var stop context.CancelFunc
		s := &script{first: time.Second}
		synctest.Test(t, func(t *testing.T) {
			m := newMemory()
			srv := &http.Server{Handler: s}
			served := make(chan error, 1)
			go func() { served <- srv.Serve(m) }()
			cfg := Default()
			cfg.URL, cfg.Model, cfg.Dial, cfg.Loads, cfg.Requests, cfg.Warmup = "http://server", "m", m.dial, []Load{l, l}, 1000, 0
			ctx, cancel := context.WithCancel(t.Context())
			stop = cancel
			time.AfterFunc(7500*time.Millisecond, stop)
			rep, err := Run(ctx, cfg)
			if !errors.Is(err, context.Canceled) || len(rep.Points) != 1 || rep.Failed() != 0 || rep.Points[0].Requests < 8 {
				t.Errorf("%v: %+v %v", l, rep.Points, err)
			}
			srv.Close()
			m.Close()
			<-served
			time.Sleep(time.Minute)
		})
	}
}

func TestValidate(t *testing.T) {
	for _, change := range []func(*Config){
		func(c *Config) { c.URL = "ftp://x" },
		func(c *Config) { c.URL = "host:80" },
		func(c *Config) { c.API = "embeddings" },
		func(c *Config) { c.Loads = nil },
		func(c *Config) { c.Loads = []Load{{Concurrency: 0}} },
		func(c *Config) { c.Loads = []Load{{Rate: -1}} },
		func(c *Config) { c.Loads = []Load{{Concurrency: 1 << 20}} },
		func(c *Config) { c.Timeout = 0 },
		func(c *Config) { c.Turns = 0 },
		func(c *Config) { c.Groups = 0 },
		func(c *Config) { c.Prefix = -1 },
		func(c *Config) { c.InFlight = 0 },
	} {
		c := Default()
		c.URL = "http://x"
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&c)
		if err := c.Validate(); !errors.Is(err, ErrConfig) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	c := Default()
	if c.URL = "http://x/v1/"; c.base() != "http://x/v1" {
		t.Error(c.base())
	}
	for _, r := range []struct {
		requests, perStream int
		d                   time.Duration
		l                   Load
		want                int
	}{{0, 0, 0, Load{Concurrency: 1}, 8}, {0, 0, 0, Load{Concurrency: 16}, 64}, {5, 0, 0, Load{Concurrency: 16}, 5}, {0, 3, 0, Load{Concurrency: 16}, 48}, {0, 0, 1, Load{Concurrency: 2}, 0}, {0, 0, 0, Load{Rate: 3.6}, 16}} {
		c.Requests, c.PerStream, c.Duration = r.requests, r.perStream, r.d
		if got := c.requests(r.l); got != r.want {
			t.Errorf("%+v: %d", r, got)
		}
	}
}
