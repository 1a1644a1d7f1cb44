package server

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"lamina/node/api"
)

var update = flag.Bool("update", false, "write what the server answers into testdata")

func roundTrip(h http.Handler, r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

// request builds a request as net/http would have read it from a client on loopback.
func request(method, path, body string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "127.0.0.1:8080"
	if body == "" {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

// TestGolden replays the requests in testdata: a file is a list of cases, each
//
//	=== what it shows
//	METHOD PATH
//	Header: value
//
//	body
//	--- STATUS
//	Header: value
//
//	body
//
// KEY in a header stands for an admin's key; a body of msgpack is written as JSON on both sides.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			for _, c := range strings.Split(string(data), "=== ")[1:] {
				name, rest, _ := strings.Cut(c, "\n")
				ask, want, _ := strings.Cut(rest, "\n--- ")
				got := replay(t, strings.TrimRight(ask, "\n"))
				if strings.TrimRight(got, "\n") != strings.TrimRight(want, "\n") && !*update {
					t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
				}
				fmt.Fprintf(&out, "=== %s\n%s\n--- %s\n\n", name, strings.TrimRight(ask, "\n"), strings.TrimRight(got, "\n"))
			}
			if *update {
				if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// shown are the headers that clients rely on.
var shown = []string{"Allow", "Content-Type", "Lamina-Route", "Retry-After", "Www-Authenticate", "X-Request-Id"}

func replay(t *testing.T, ask string) string {
	g := newRig(t, nil)
	head, body, _ := strings.Cut(ask, "\n\n")
	lines := strings.Split(head, "\n")
	method, path, _ := strings.Cut(lines[0], " ")
	r := request(method, path, body)
	for _, l := range lines[1:] {
		k, v, _ := strings.Cut(l, ": ")
		r.Header.Set(k, strings.ReplaceAll(v, "KEY", g.admin))
	}
	if c, ok := api.CodecOf(r.Header.Get("Content-Type")); ok && c == api.Msgpack && body != "" {
		r.Body = io.NopCloser(bytes.NewReader(jsonToMsgpack(t, body)))
	}
	resp := g.roundTrip(r)
	var out strings.Builder
	fmt.Fprintf(&out, "%d\n", resp.StatusCode)
	for _, k := range shown {
		if v := resp.Header.Get(k); v != "" {
			fmt.Fprintf(&out, "%s: %s\n", k, v)
		}
	}
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if c, _ := api.CodecOf(resp.Header.Get("Content-Type")); c == api.Msgpack {
		data = msgpackToJSON(t, data)
	}
	fmt.Fprintf(&out, "\n%s", data)
	return out.String()
}

func jsonToMsgpack(t *testing.T, body string) []byte {
	d := json.NewDecoder(strings.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	data, err := msgpack.Marshal(integers(v))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// integers turns JSON's numbers into int64 where they are whole.
func integers(v any) any {
	switch x := v.(type) {
	case map[string]any:
		for k := range x {
			x[k] = integers(x[k])
		}
	case []any:
		for i := range x {
			x[i] = integers(x[i])
		}
	case json.Number:
		if n, err := x.Int64(); err == nil {
			return n
		}
		f, _ := x.Float64()
		return f
	}
	return v
}

// msgpackToJSON writes every value of a sequence on a line.
func msgpackToJSON(t *testing.T, data []byte) []byte {
	var out bytes.Buffer
	for _, one := range splitMsgpack(t, data) {
		d := msgpack.NewDecoder(bytes.NewReader(one))
		d.UseLooseInterfaceDecoding(true)
		v, err := d.DecodeInterface()
		if err != nil {
			t.Fatal(err)
		}
		line, err := api.JSON.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(line)
		out.WriteByte('\n')
	}
	return out.Bytes()
}
