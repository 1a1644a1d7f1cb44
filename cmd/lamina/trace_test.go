package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// jaegerSpan is what the test reads of a span in Jaeger's query API.
type jaegerSpan struct {
	TraceID       string
	OperationName string
	ProcessID     string
	References    []struct{ RefType, SpanID string }
	Tags          []struct {
		Key   string
		Value any
	}
}

func (s jaegerSpan) tag(key string) any {
	for _, t := range s.Tags {
		if t.Key == key {
			return t.Value
		}
	}
	return nil
}

// startJaeger runs a real Jaeger on ports of its own and returns the addresses of its collector and query API.
func startJaeger(t *testing.T) (otlp, query string) {
	t.Helper()
	cache := os.Getenv("LAMINA_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(dir, "lamina")
	}
	built, _ := filepath.Glob(filepath.Join(cache, "jaeger-*"))
	need(t, len(built) > 0, "no Jaeger in %s; deploy/jaeger/jaeger.sh build makes one (several minutes)", cache)
	otlp, query = freePort(t), freePort(t)
	cmd := exec.Command("../../deploy/jaeger/jaeger.sh", "run")
	cmd.Env = append(os.Environ(), "JAEGER_OTLP_HTTP="+otlp, "JAEGER_QUERY="+query, "JAEGER_QUERY_GRPC="+freePort(t), "JAEGER_OTLP_GRPC="+freePort(t))
	log := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	await(t, 30*time.Second, "Jaeger's query API", func() error {
		_, err := getJSON[any]("http://" + query + "/api/services")
		if err != nil {
			return fmt.Errorf("%w\n%s", err, log)
		}
		return nil
	})
	return otlp, query
}

// await tries until f succeeds or the time is over.
func await(t *testing.T, limit time.Duration, what string, f func() error) {
	t.Helper()
	end := time.Now().Add(limit)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		<-time.After(100 * time.Millisecond)
	}
}

func getJSON[T any](url string) (v T, err error) {
	resp, err := http.Get(url)
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return v, err
	}
	if resp.StatusCode != http.StatusOK {
		return v, fmt.Errorf("%s: %s", resp.Status, data)
	}
	return v, json.Unmarshal(data, &v)
}

// A chat through three node processes is one trace in a real Jaeger: the caller's own, with the gateway's spans and, for
// every stage, its prefill and decode spans, and no word of the prompt.
func TestTraceInJaeger(t *testing.T) {
	file := model(t, smollm2)
	otlp, query := startJaeger(t)
	nodes := startCluster(t, 3, "--otlp", "http://"+otlp)
	nodes[0].must("add", "smollm2", file, "--stages", "3")

	const trace, secret = "4bf92f3577b34da6a3ce929d0e0e4736", "xylophone"
	body, _ := json.Marshal(map[string]any{"model": "smollm2", "max_tokens": 8, "temperature": 0, "messages": []map[string]string{{"role": "user", "content": "Describe a " + secret + "."}}})
	req, err := http.NewRequest(http.MethodPost, "http://"+nodes[2].http+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", resp.Status, answer)
	}

	var raw json.RawMessage
	await(t, 20*time.Second, "the trace in Jaeger", func() error {
		if raw, err = getJSON[json.RawMessage]("http://" + query + "/api/traces/" + trace); err != nil {
			return err
		}
		return checkTrace(raw)
	})
	if bytes.Contains(raw, []byte(secret)) {
		t.Errorf("the prompt is in the trace")
	}
	for _, p := range nodes {
		if bytes.Contains([]byte(p.log.String()), []byte(secret)) {
			t.Errorf("the prompt is in the log of %s", p.name)
		}
	}
}

// checkTrace says what the trace lacks.
func checkTrace(raw []byte) error {
	var reply struct {
		Data []struct{ Spans []jaegerSpan }
	}
	if err := json.Unmarshal(raw, &reply); err != nil {
		return err
	}
	if len(reply.Data) != 1 {
		return fmt.Errorf("%d traces", len(reply.Data))
	}
	have := map[string]int{}
	for _, s := range reply.Data[0].Spans {
		name := s.OperationName
		if n := s.tag("lamina.stage"); n != nil {
			name = fmt.Sprintf("%s at stage %v on %v", name, n, s.tag("lamina.node"))
			if s.tag("lamina.compute_ms") == nil || s.tag("lamina.queue_ms") == nil {
				return fmt.Errorf("%s says no compute or queue time", name)
			}
		}
		if len(s.References) == 0 {
			return fmt.Errorf("span %s has no parent", name)
		}
		have[name]++
	}
	want := []string{"POST /v1/chat/completions", "tokenize", "route", "generate"}
	for i := range 3 {
		for _, what := range []string{"prefill", "decode"} {
			found := false
			for name := range have {
				found = found || strings.HasPrefix(name, fmt.Sprintf("%s at stage %d ", what, i))
			}
			if !found {
				return fmt.Errorf("no %s span of stage %d; there are %v", what, i, have)
			}
		}
	}
	for _, w := range want {
		if have[w] == 0 {
			return fmt.Errorf("no span %q; there are %v", w, have)
		}
	}
	return nil
}
