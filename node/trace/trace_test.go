package trace

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sync"
	"testing"
	"time"

	"lamina/shard/pipeline"
)

// collector is an OTLP/HTTP collector that keeps the bytes it gets.
type collector struct {
	*httptest.Server
	mu   sync.Mutex
	path string
	got  bytes.Buffer
}

func newCollector(t *testing.T) *collector {
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.path = r.URL.Path
		if _, err := io.Copy(&c.got, r.Body); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) has(s string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Contains(c.got.Bytes(), []byte(s))
}

var traceparent = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-01$`)

func TestSpansReachTheCollector(t *testing.T) {
	c := newCollector(t)
	tr, err := New(t.Context(), Config{Endpoint: c.URL, Node: "n1", Version: "v"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, span := tr.Start(t.Context(), "generate", slog.String("lamina.route", "n1[0:3]"), slog.Int("lamina.attempt", 1))
	parent := tr.Traceparent(ctx)
	if !traceparent.MatchString(parent) {
		t.Errorf("traceparent %q", parent)
	}
	ev := tr.Events()
	at := pipeline.StageInfo{Trace: parent, Node: "n2", Model: "sha256:x", Index: 1, First: 3, End: 6}
	now := time.Now()
	ev.Chunk(at, pipeline.ChunkStats{Start: now, End: now.Add(time.Millisecond), Queue: time.Millisecond, Compute: time.Millisecond, Count: 7})
	ev.Closed(at, pipeline.DecodeStats{Tokens: 5, First: now, Last: now, Outcome: pipeline.OutcomeDone})
	ev.Closed(at, pipeline.DecodeStats{Outcome: pipeline.OutcomeFailed}) // never stepped
	span.End(errors.New("the route is gone"))
	if err := tr.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.path != "/v1/traces" {
		t.Errorf("the collector was asked at %s", c.path)
	}
	for _, want := range []string{"generate", "prefill", "decode", "lamina.queue_ms", "lamina.route", "n1[0:3]", "the route is gone", "service.instance.id"} {
		if !c.has(want) {
			t.Errorf("the collector did not get %q", want)
		}
	}
}

func TestCallersTraceIsTakenUp(t *testing.T) {
	c := newCollector(t)
	tr, err := New(t.Context(), Config{Endpoint: c.URL, Node: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	var seen string
	h := tr.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = tr.Traceparent(r.Context()) }))
	r := httptest.NewRequest(http.MethodPost, "/v1/infer", nil)
	r.Header.Set("traceparent", "00-"+id+"-00f067aa0ba902b7-01")
	h.ServeHTTP(httptest.NewRecorder(), r)
	if len(seen) < 35 || seen[3:35] != id {
		t.Errorf("the request runs under %q, not under the caller's trace", seen)
	}
	if err := tr.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestOffCostsNothingAndSaysNothing(t *testing.T) {
	tr, err := New(t.Context(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, span := tr.Start(t.Context(), "generate")
	span.Set(slog.Int("x", 1))
	span.End(nil)
	if p := tr.Traceparent(ctx); p != "" {
		t.Errorf("traceparent %q without tracing", p)
	}
	if ev := tr.Events(); ev.Chunk != nil || ev.Closed != nil {
		t.Error("the pipeline reports events to nobody")
	}
	if n := testing.AllocsPerRun(100, func() {
		_, sp := tr.Start(ctx, "generate")
		sp.End(nil)
	}); n != 0 {
		t.Errorf("%v allocations a span without tracing", n)
	}
}

// A collector that is away holds up nothing; that spans are lost is logged once, not for each try.
func TestCollectorAway(t *testing.T) {
	c := newCollector(t)
	c.Close()
	var b bytes.Buffer
	tr, err := New(t.Context(), Config{Endpoint: c.URL, Node: "n1", Log: slog.New(slog.NewTextHandler(&b, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for range 10000 { // more than the queue holds
		_, span := tr.Start(t.Context(), "generate")
		span.End(nil)
	}
	if err := tr.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := bytes.Count(b.Bytes(), []byte("could not be sent")); n != 1 {
		t.Errorf("%d lines about lost spans:\n%s", n, b.Bytes())
	}
}

func TestBadEndpoint(t *testing.T) {
	for _, e := range []string{"://", "collector", "http://"} {
		if _, err := New(t.Context(), Config{Endpoint: e}); err == nil {
			t.Errorf("endpoint %q is taken", e)
		}
	}
}

func TestLogLinesCarryTheTrace(t *testing.T) {
	c := newCollector(t)
	tr, err := New(t.Context(), Config{Endpoint: c.URL, Node: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	log := slog.New(LogHandler(slog.NewTextHandler(&b, nil))).With("node", "n1")
	ctx, span := tr.Start(t.Context(), "generate")
	log.InfoContext(ctx, "inside")
	span.End(nil)
	log.Info("outside")
	lines := bytes.Split(bytes.TrimSpace(b.Bytes()), []byte("\n"))
	if len(lines) != 2 || !bytes.Contains(lines[0], []byte("trace_id="+tr.Traceparent(ctx)[3:35])) || bytes.Contains(lines[1], []byte("trace_id")) {
		t.Errorf("%s", b.Bytes())
	}
	if err := tr.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
