package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"lamina/cluster"
)

// answer starts a server that gives one answer to everything and remembers what it was asked.
func answer(t *testing.T, status int, contentType, body string) (*Client, *http.Request) {
	t.Helper()
	var seen http.Request
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		seen = *r
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(srv.Close)
	c, err := NewClient(srv.URL, "lk_a_b", JSON)
	if err != nil {
		t.Fatal(err)
	}
	return c, &seen
}

func TestClientStream(t *testing.T) {
	events := []GenerateEvent{
		{Type: EventStart, ID: "r1", Model: "m", Digest: "sha256:0", Route: "n1[0:2]", Usage: &Usage{PromptTokens: 3}},
		{Type: EventText, Text: "Hel", Tokens: []Token{{ID: 1, Text: "Hel"}}},
		{Type: EventText, Text: "lo\n\ndata: x", Tokens: []Token{{ID: 2, Text: "lo"}}},
		{Type: EventEnd, FinishReason: "stop", Usage: &Usage{PromptTokens: 3, CompletionTokens: 2}, Timings: &Timings{DecodeMS: 5}},
	}
	for _, codec := range []Codec{JSON, Msgpack} {
		var body []byte
		for _, e := range events {
			var err error
			if body, err = codec.AppendEvent(body, e, false); err != nil {
				t.Fatal(err)
			}
		}
		c, _ := answer(t, 200, codec.StreamType(), string(body))
		c.codec = codec
		var kinds []string
		reply, err := c.Generate(context.Background(), GenerateRequest{Model: "m", Stream: true}, func(e GenerateEvent) error {
			kinds = append(kinds, e.Type)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(kinds, " "); got != "start text text end" {
			t.Errorf("%s: events %s", codec.Type(), got)
		}
		if reply.Text != "Hello\n\ndata: x" || len(reply.Tokens) != 2 || reply.Usage.CompletionTokens != 2 || reply.Route != "n1[0:2]" || reply.FinishReason != "stop" {
			t.Errorf("%s: reply %+v", codec.Type(), reply)
		}
	}
}

func TestClientStreamBreaks(t *testing.T) {
	start := `data: {"type":"start","id":"r"}` + "\n\n"
	for _, c := range []struct {
		name, body string
		check      func(error) bool
	}{
		{"cut between events", start, func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		{"cut in an event", start + `data: {"type":"text","te`, func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		{"error event", start + "event: error\ndata: {\"type\":\"error\",\"error\":{\"message\":\"lost n2\",\"code\":\"node_lost\"}}\n\n",
			func(err error) bool { var e *Error; return errors.As(err, &e) && e.Code == "node_lost" }},
		{"no JSON", "data: hello\n\n", func(err error) bool { return errors.Is(err, ErrMessage) }},
	} {
		cl, _ := answer(t, 200, TypeSSE, c.body)
		_, err := cl.Generate(context.Background(), GenerateRequest{Model: "m", Stream: true}, nil)
		if !c.check(err) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestReadSSE(t *testing.T) {
	text := ": a comment\r\n\r\nevent: x\r\ndata: {\"type\":\"text\",\r\ndata: \"text\":\"a\"}\r\n\r\nid: 7\n\ndata:{\"type\":\"end\"}\n\n"
	var got []string
	err := readStream(strings.NewReader(text), JSON, func(e GenerateEvent) error {
		got = append(got, e.Type+e.Text)
		return nil
	})
	if err != nil || fmt.Sprint(got) != "[texta end]" {
		t.Errorf("%v %v", got, err)
	}
	long := "data: " + strings.Repeat("x", maxEvent+1) + "\n\n"
	if err := readStream(strings.NewReader(long), JSON, nil); !errors.Is(err, ErrMessage) {
		t.Errorf("an endless line: %v", err)
	}
}

func TestClientErrors(t *testing.T) {
	c, seen := answer(t, 404, TypeJSON, `{"error":{"message":"model \"m\" not found","type":"invalid_request_error","code":"model_not_found","new_field":1}}`)
	_, err := c.Model(context.Background(), "a b/c")
	var e *Error
	if !errors.As(err, &e) || e.Status != 404 || e.Code != "model_not_found" {
		t.Errorf("%v", err)
	}
	if seen.URL.EscapedPath() != "/v1/cluster/models/a%20b/c" || seen.Header.Get("Authorization") != "Bearer lk_a_b" {
		t.Errorf("asked for %s with %v", seen.URL.EscapedPath(), seen.Header)
	}
	c, _ = answer(t, 502, "text/html", "<h1>Bad Gateway</h1>")
	if _, err = c.Nodes(context.Background()); !errors.As(err, &e) || e.Code != "http_502" {
		t.Errorf("a proxy's answer: %v", err)
	}
	c, _ = answer(t, 200, TypeJSON, `{"models":[]}`)
	if _, err = c.AddModel(context.Background(), cluster.Model{}); !errors.Is(err, ErrMessage) {
		t.Errorf("no model in the reply: %v", err)
	}
	c, _ = answer(t, 404, TypeJSON, "")
	if has, err := c.Has(context.Background(), "sha256:0"); has || err != nil {
		t.Errorf("absent blob: %v %v", has, err)
	}
	c, _ = answer(t, 500, TypeJSON, "")
	if _, err := c.Has(context.Background(), "sha256:0"); err == nil {
		t.Error("a failure was taken for an absent blob")
	}
	if _, err := NewClient("ftp://x", "", JSON); err == nil {
		t.Error("ftp was taken")
	}
}

func TestClientCancelled(t *testing.T) {
	c, _ := answer(t, 200, TypeJSON, `{}`)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Nodes(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnreachable) {
		t.Errorf("%v", err)
	}
}
