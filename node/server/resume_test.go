package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"lamina/cluster"
	"lamina/node/infer"
	"lamina/node/records"
)

// streams are the endpoints whose streams can be resumed, with a body for each.
var streams = map[string]string{
	"/v1/chat/completions": `{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true,"temperature":1,"stream_options":{"include_usage":true},"logprobs":true}`,
	"/v1/completions":      `{"model":"m","prompt":"x","stream":true,"echo":true,"logprobs":1}`,
	"/v1/infer":            `{"model":"m","prompt":"x","stream":true}`,
}

// A stream that is resumed after any of its events goes on with the bytes that the client has not got, with the seed it had.
func TestResume(t *testing.T) {
	for path, body := range streams {
		g := newRig(t, nil)
		seeds := uint64(0)
		g.seed = func() uint64 { seeds++; return seeds }
		first := g.roundTrip(request("POST", path, body, "X-Request-Id", "mine", "Content-Type", "application/json", "Authorization", "Bearer "+g.admin))
		whole := readAll(t, first)
		events := strings.Count(whole, "id: ")
		if events < 6 {
			t.Fatalf("%s: %d events in %s", path, events, whole)
		}
		want := g.svc.last()
		g.newID = func() string { return "another" }
		for after := range events + 1 {
			for _, how := range []string{"header", "query"} {
				r := request("GET", path+"/mine", "", "Last-Event-ID", strconv.Itoa(after), "Authorization", "Bearer "+g.admin)
				if how == "query" {
					r = request("GET", fmt.Sprintf("%s/mine?starting_after=%d", path, after), "", "Authorization", "Bearer "+g.admin)
				}
				resp := g.roundTrip(r)
				got := readAll(t, resp)
				rest := whole
				if after > 0 {
					_, rest, _ = strings.Cut(whole, fmt.Sprintf("id: %d\n", after))
					_, rest, _ = strings.Cut(rest, "\n\n")
				}
				if got != rest || resp.Header.Get("X-Request-Id") != "mine" {
					t.Fatalf("%s after %d by %s: got\n%s\nwant\n%s", path, after, how, got, rest)
				}
				if again := g.svc.last(); again.Sampling.Seed != want.Sampling.Seed || again.ID != want.ID {
					t.Errorf("%s: resumed with seed %d as %s, it had %d as %s", path, again.Sampling.Seed, again.ID, want.Sampling.Seed, want.ID)
				}
			}
		}
	}
}

func readAll(t *testing.T, r *http.Response) string {
	t.Helper()
	data, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Only who asked may resume, what was streamed, at the endpoint it was asked at, with one answer, of the same model.
func TestResumeRefuses(t *testing.T) {
	g := newRig(t, nil)
	user := g.cl.addKey("bob", cluster.User).String()
	ask := func(method, path, body, key, id string, headers ...string) (int, string) {
		headers = append(headers, "X-Request-Id", id, "Content-Type", "application/json", "Authorization", "Bearer "+key)
		r := g.roundTrip(request(method, path, body, headers...))
		return r.StatusCode, readAll(t, r)
	}
	chat := streams["/v1/chat/completions"]
	ask("POST", "/v1/chat/completions", chat, g.admin, "a")
	ask("POST", "/v1/chat/completions", strings.Replace(chat, `"stream":true`, `"stream":true,"n":2`, 1), g.admin, "two")
	ask("POST", "/v1/infer", `{"model":"m","prompt":"x"}`, g.admin, "whole")
	for _, c := range []struct {
		path, key string
		headers   []string
		status    int
		code      string
	}{
		{"/v1/chat/completions/a", g.admin, nil, 200, ""},
		{"/v1/chat/completions/a", user, nil, 404, "request_not_found"},
		{"/v1/completions/a", g.admin, nil, 404, "request_not_found"},
		{"/v1/chat/completions/two", g.admin, nil, 404, "request_not_found"},
		{"/v1/infer/whole", g.admin, nil, 404, "request_not_found"},
		{"/v1/infer/never", g.admin, nil, 404, "request_not_found"},
		{"/v1/chat/completions/a", g.admin, []string{"Last-Event-ID", "x"}, 400, "Last-Event-ID"},
		{"/v1/chat/completions/a?starting_after=-1", g.admin, nil, 400, "starting_after"},
	} {
		status, body := ask("GET", c.path, "", c.key, "unused", c.headers...)
		if status != c.status || !strings.Contains(body, c.code) {
			t.Errorf("%s: %d %s, want %d %s", c.path, status, body, c.status, c.code)
		}
	}
	g.svc.digest = "sha256:" + strings.Repeat("cd", 32)
	if status, body := ask("GET", "/v1/chat/completions/a", "", g.admin, "b"); status != 409 || !strings.Contains(body, "model_changed") {
		t.Errorf("another model under the name: %d %s", status, body)
	}
}

// The request is kept before the first byte of the answer is sent, and the client learns where.
func TestKeptBeforeTheFirstByte(t *testing.T) {
	g := newRig(t, nil)
	kept := false
	g.cfg.Records = shadowed{localRecords{NewRecords()}, &kept}
	g.svc.hook = func(context.Context, func(infer.Event) error) error {
		if !kept {
			t.Error("tokens are made before the request is kept")
		}
		return nil
	}
	r := g.roundTrip(request("POST", "/v1/infer", streams["/v1/infer"], "Content-Type", "application/json", "Authorization", "Bearer "+g.admin))
	if got := r.Header.Get(shadowHeader); got != "n7" || !kept {
		t.Errorf("kept %v at %q", kept, got)
	}
}

type shadowed struct {
	localRecords
	kept *bool
}

// Keep implements Records.
func (s shadowed) Keep(ctx context.Context, r records.Record) string {
	s.localRecords.Keep(ctx, r)
	*s.kept = true
	return "n7"
}
