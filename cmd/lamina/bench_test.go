package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lamina/node/bench"
)

// answers is a server with the OpenAI API that fails every failEach-th request.
type answers struct {
	n        atomic.Int64
	failEach int64
	body     atomic.Value
}

func (s *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		fmt.Fprint(w, `{"data":[{"id":"theirs"}]}`)
		return
	}
	var b map[string]any
	_ = json.NewDecoder(r.Body).Decode(&b)
	b["authorization"], b["path"] = r.Header.Get("Authorization"), r.URL.Path
	s.body.Store(b)
	if n := s.n.Add(1); s.failEach > 0 && n%s.failEach == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `{"error":{"message":"full"}}`)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for range 3 {
		fmt.Fprint(w, "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"text\":\"\"}]}\n\n")
	}
	fmt.Fprint(w, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n")
}

func benchRun(t *testing.T, s *answers, args ...string) (out, errOut string, code int) {
	t.Helper()
	clearEnv(t)
	web := httptest.NewServer(s)
	defer web.Close()
	dir := t.TempDir()
	t.Setenv("LAMINA_DATA", dir)
	if err := os.WriteFile(filepath.Join(dir, "admin.key"), []byte("lk_secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var o, e bytes.Buffer
	code = run(append([]string{"bench", "--addr", web.URL, "--answer", "3"}, args...), strings.NewReader(""), &o, &e)
	return o.String(), e.String(), code
}

func TestBench(t *testing.T) {
	s := &answers{}
	dir := t.TempDir()
	out, errOut, code := benchRun(t, s, "-c", "1,3", "-n", "2x", "--temperature", "0", "--top-k", "5", "--top-p", "0.5", "--min-p", "0.1", "--field", `stop=["x,y"]`, "--plot", filepath.Join(dir, "a.svg"), "--plot", filepath.Join(dir, "a.PNG"))
	if code != 0 || errOut != "" {
		t.Fatal(code, errOut)
	}
	for _, w := range []string{"theirs at http://127.0.0.1", "STREAMS", "\n        1     2       0", "\n        3     6       0"} {
		if !strings.Contains(out, w) {
			t.Errorf("no %q in\n%s", w, out)
		}
	}
	b := s.body.Load().(map[string]any)
	if b["model"] != "theirs" || b["temperature"] != 0.0 || b["top_k"] != 5.0 || b["top_p"] != 0.5 || b["ignore_eos"] != true || fmt.Sprint(b["stop"]) != "[x,y]" || b["max_tokens"] != 3.0 {
		t.Errorf("%v", b)
	}
	if b["authorization"] != "" {
		t.Errorf("a stranger was shown the key of this machine: %v", b["authorization"])
	}
	for name, magic := range map[string]string{"a.svg": "<svg", "a.PNG": "\x89PNG"} {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.HasPrefix(string(data), magic) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What scripts read, and what their exit code says.
func TestBenchForScripts(t *testing.T) {
	s := &answers{failEach: 5}
	out, errOut, code := benchRun(t, s, "m", "--rate", "500,1000", "--even", "-n", "10", "--json", "--key", "lk_mine", "--completions", "--no-ignore-eos", "--seed", "9")
	var rep bench.Report
	if err := json.Unmarshal([]byte(out), &rep); err != nil {
		t.Fatal(err, out)
	}
	if code != exitFailure || !strings.Contains(errOut, "--max-errors is 0") || rep.Failed() < 2 || len(rep.Points) != 2 || rep.Points[1].Rate != 1000 || rep.Points[0].Requests != 10 || rep.Seed != 9 || rep.Model != "m" {
		t.Errorf("%d %q %+v", code, errOut, rep)
	}
	if e := rep.Points[0].Errors; len(e) != 1 || e[0].Kind != "http 503" || !strings.Contains(e[0].Example, "full") {
		t.Errorf("%+v", e)
	}
	b := s.body.Load().(map[string]any)
	if b["authorization"] != "Bearer lk_mine" || b["path"] != "/v1/completions" || b["ignore_eos"] != nil {
		t.Errorf("%v", b)
	}
	if _, errOut, code := benchRun(t, &answers{failEach: 5}, "m", "-n", "10", "--max-errors", "5"); code != 0 {
		t.Errorf("%d %q", code, errOut)
	}
}

func TestBenchUsage(t *testing.T) {
	for want, args := range map[string][]string{
		"give one of them":  {"-c", "1", "-r", "1"},
		"more than 0":       {"-r", "0"},
		"--requests":        {"-n", "x"},
		"NAME=JSON":         {"--field", "a=b"},
		"an .svg or a .png": {"--plot", "x.jpg"},
		"--prompt":          {"--prompt", "0"},
		"load 0":            {"-c", "0"},
		"503":               {},
	} {
		s := &answers{}
		if want == "503" {
			s.failEach = 1
		}
		if _, errOut, code := benchRun(t, s, args...); code == 0 || !strings.Contains(errOut, want) {
			t.Errorf("%v: %d %q, want %q", args, code, errOut, want)
		}
	}
}

func TestBenchProgress(t *testing.T) {
	s := bench.Snapshot{Load: bench.Load{Concurrency: 8}, Done: 16, Failed: 1, Running: 8, Want: 64, Elapsed: 10 * time.Second, OutPerSecond: 231.27, TTFT50: 120 * time.Millisecond, Gap50: 7 * time.Millisecond}
	if got, want := progressText(s), "load 8: 16 of 64 done, 8 running, 1 failed, 231.3 tokens/s, TTFT 120ms, gap 7ms, 30s left"; got != want {
		t.Errorf("%q", got)
	}
	if got := progressText(bench.Snapshot{Load: bench.Load{Rate: 2.5}, Running: 1, Elapsed: time.Second, Total: 5 * time.Second}); got != "load 2.5/s: 0 done, 1 running, 4s left" {
		t.Errorf("%q", got)
	}
}
