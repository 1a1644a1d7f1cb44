package server

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
)

// goneWriter is the way to a client that has gone.
type goneWriter struct{ header http.Header }

func (w goneWriter) Header() http.Header       { return w.header }
func (w goneWriter) WriteHeader(int)           {}
func (w goneWriter) Write([]byte) (int, error) { return 0, syscall.EPIPE }
func (w goneWriter) FlushError() error         { return syscall.EPIPE }

// A client that goes away in the middle is no failure of the node: nothing is logged as one.
func TestClientsThatGo(t *testing.T) {
	var log bytes.Buffer
	g := newRig(t, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	cut := io.MultiReader(strings.NewReader("half"), failingReader{io.ErrUnexpectedEOF})
	for what, r := range map[string]*http.Request{
		"a stream":  httptest.NewRequest("POST", "http://127.0.0.1:8080/v1/chat/completions", strings.NewReader(`{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}`)),
		"a reply":   httptest.NewRequest("POST", "http://127.0.0.1:8080/v1/infer", strings.NewReader(`{"model":"m","prompt":"x"}`)),
		"an upload": httptest.NewRequest("PUT", "http://127.0.0.1:8080/v1/cluster/blobs/sha256:"+strings.Repeat("0", 64), cut),
	} {
		if r.Method == http.MethodPut {
			r.ContentLength = 8
			r.Header.Set("Authorization", "bearer "+g.admin) // a scheme has no case
		}
		g.Handler().ServeHTTP(goneWriter{http.Header{}}, r)
		if log.Len() > 0 {
			t.Errorf("%s: %s", what, &log)
			log.Reset()
		}
	}
	if f, known := faultOf(gone(errors.New("x"))); !known || f.status != statusGone {
		t.Errorf("gone is %+v", f)
	}
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }
