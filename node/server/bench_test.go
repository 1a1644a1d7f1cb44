package server

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"lamina/node/infer"
)

// What the server adds to a token of a stream, over loopback, client included.
func BenchmarkStreamedToken(b *testing.B) {
	for _, c := range []struct{ name, path, body, accept string }{
		{"openai", "/v1/chat/completions", strings.TrimSuffix(chatBase, "}") + `,"stream":true}`, ""},
		{"native-json", "/v1/infer", streamed, ""},
		{"native-msgpack", "/v1/infer", streamed, "application/msgpack"},
	} {
		b.Run(c.name, func(b *testing.B) {
			g := newRig(b, nil)
			left := 0
			g.svc.hook = func(_ context.Context, emit func(infer.Event) error) error {
				for ; left > 0; left-- {
					if err := emit(infer.Event{Text: " token", Tokens: script[:1]}); err != nil {
						return err
					}
				}
				return nil
			}
			web := httptest.NewServer(g.Handler())
			defer web.Close()
			left = b.N
			b.ResetTimer()
			req, _ := http.NewRequest(http.MethodPost, web.URL+c.path, strings.NewReader(c.body))
			req.Header.Set("Accept", c.accept)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, bufio.NewReader(resp.Body)); err != nil {
				b.Fatal(err)
			}
			resp.Body.Close()
		})
	}
}
