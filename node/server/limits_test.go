package server

import (
	"bufio"
	"bytes"
	"context"
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

	"lamina/node/infer"
)

// pipeListener is a listener whose connections are net.Pipes: they have deadlines and live in a synctest bubble.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

func (l *pipeListener) dial() net.Conn {
	here, there := net.Pipe()
	l.conns <- there
	return here
}

// serve runs a rig's server on a pipe listener in this bubble; stop ends it.
func serve(t *testing.T, g *rig) (l *pipeListener, stop func()) {
	g.now = time.Now
	l = newPipeListener()
	done := make(chan error, 1)
	go func() { done <- g.Serve(l) }()
	return l, func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = g.Shutdown(ctx) // connections that a test leaves open are cut
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
}

// raw writes a request to a connection.
func raw(t *testing.T, c net.Conn, path, body string, length int) {
	t.Helper()
	if _, err := fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, length, body); err != nil {
		t.Fatal(err)
	}
}

func readReply(t *testing.T, c net.Conn) (int, string) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

const streamed = `{"model":"m","prompt":"Hi","stream":true}`

// endless makes the service emit without end and reports with what it ended.
func endless(g *rig) <-chan error {
	ended := make(chan error, 16)
	g.svc.hook = func(ctx context.Context, emit func(infer.Event) error) error {
		for {
			err := emit(infer.Event{Text: strings.Repeat("x", 1000)})
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				ended <- err
				return err
			}
			select { // a token a millisecond
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
	return ended
}

func TestSlowReaderIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		ended := endless(g)
		l, stop := serve(t, g)
		defer stop()
		c := l.dial()
		defer c.Close()
		raw(t, c, "/v1/infer", streamed, len(streamed))
		begun := time.Now()
		if _, err := io.ReadFull(c, make([]byte, 2000)); err != nil { // and then it reads no more
			t.Fatal(err)
		}
		err := <-ended
		if took := time.Since(begun); took < 30*time.Second || took > 31*time.Second || err == nil {
			t.Errorf("cut off after %v with %v", took, err)
		}
	})
}

func TestReaderThatTakesItsTimeIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		ended := endless(g)
		l, stop := serve(t, g)
		defer stop()
		c := l.dial()
		raw(t, c, "/v1/infer", streamed, len(streamed))
		buf := make([]byte, 4096)
		for range 20 { // 400 s: far more than any deadline of a piece
			time.Sleep(20 * time.Second)
			if _, err := c.Read(buf); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
		if err := <-ended; err == nil {
			t.Error("the answer went on without a client")
		}
	})
}

func TestClientGoneCancels(t *testing.T) {
	for _, body := range []string{streamed, `{"model":"m","prompt":"Hi"}`} {
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t, nil)
			began, ended := make(chan bool, 1), make(chan error, 1)
			g.svc.hook = func(ctx context.Context, _ func(infer.Event) error) error {
				began <- true
				<-ctx.Done()
				ended <- ctx.Err()
				return ctx.Err()
			}
			l, stop := serve(t, g)
			defer stop()
			c := l.dial()
			raw(t, c, "/v1/infer", body, len(body))
			go io.Copy(io.Discard, c) //nolint:errcheck // ends with the connection
			<-began
			time.Sleep(time.Minute) // longer than the body's read deadline: it must not look like a client that is gone
			select {
			case err := <-ended:
				t.Fatalf("cancelled while the client waits: %v", err)
			default:
			}
			begun := time.Now()
			c.Close()
			if err := <-ended; !errors.Is(err, context.Canceled) || time.Since(begun) > time.Second {
				t.Errorf("%v after %v", err, time.Since(begun))
			}
			synctest.Wait()
			if out := metricsOf(t, g); !strings.Contains(out, `code="499",route="POST /v1/infer"`) && !strings.Contains(body, "stream") {
				t.Error("not counted as a client that went away")
			}
		})
	}
}

func TestSlowBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		l, stop := serve(t, g)
		defer stop()
		c := l.dial()
		defer c.Close()
		begun := time.Now()
		raw(t, c, "/v1/infer", `{"model":`, 100)
		status, body := readReply(t, c)
		if took := time.Since(begun); status != http.StatusRequestTimeout || took < 30*time.Second || took > 31*time.Second {
			t.Errorf("%d %s after %v", status, body, took)
		}
	})
}

func TestSlowHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		l, stop := serve(t, g)
		defer stop()
		c := l.dial()
		defer c.Close()
		begun := time.Now()
		if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\n"); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, c)
		if took := time.Since(begun); took < 5*time.Second || took > 6*time.Second {
			t.Errorf("closed after %v", took)
		}
	})
}

func TestRequestDeadline(t *testing.T) {
	for _, body := range []string{streamed, `{"model":"m","prompt":"Hi"}`} {
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t, nil)
			g.svc.hook = func(ctx context.Context, _ func(infer.Event) error) error {
				<-ctx.Done()
				return ctx.Err()
			}
			l, stop := serve(t, g)
			defer stop()
			c := l.dial()
			defer c.Close()
			begun := time.Now()
			raw(t, c, "/v1/infer", body, len(body))
			status, answer := readReply(t, c)
			if time.Since(begun) != 10*time.Minute || !strings.Contains(answer, "deadline_exceeded") || (status != 504) != strings.Contains(body, "stream") {
				t.Errorf("%d %s after %v", status, answer, time.Since(begun))
			}
		})
	}
}

func TestUploadMayTakeLongButNotStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		l, stop := serve(t, g)
		defer stop()
		digest := "sha256:" + strings.Repeat("0", 64)
		put := func() net.Conn {
			c := l.dial()
			if _, err := fmt.Fprintf(c, "PUT /v1/cluster/blobs/%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 100\r\n\r\n", digest, g.admin); err != nil {
				t.Fatal(err)
			}
			return c
		}
		c := put()
		defer c.Close()
		for range 100 { // 2,000 s in all
			time.Sleep(20 * time.Second)
			if _, err := io.WriteString(c, "x"); err != nil {
				t.Fatal(err)
			}
		}
		if status, body := readReply(t, c); status != http.StatusBadRequest || !strings.Contains(body, "bad_blob") {
			t.Errorf("%d %s", status, body)
		}
		stalled := put()
		defer stalled.Close()
		begun := time.Now()
		if status, _ := readReply(t, stalled); status != http.StatusRequestTimeout || time.Since(begun) > 31*time.Second {
			t.Errorf("a stalled upload: %d after %v", status, time.Since(begun))
		}
	})
}

func TestInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, func(c *Config) { c.Limits.InFlight = 2 })
		release := make(chan bool)
		g.svc.hook = func(context.Context, func(infer.Event) error) error { <-release; return nil }
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if resp := g.roundTrip(request("POST", "/v1/infer", promptBase)); resp.StatusCode != 200 {
					t.Errorf("an admitted request: %d", resp.StatusCode)
				}
			})
		}
		synctest.Wait()
		resp := g.roundTrip(request("POST", "/v1/infer", promptBase))
		if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "1" {
			t.Errorf("over the bound: %d %v", resp.StatusCode, resp.Header)
		}
		if resp := g.roundTrip(request("GET", "/v1/models", "")); resp.StatusCode != 200 {
			t.Errorf("a route that runs no model: %d", resp.StatusCode)
		}
		close(release)
		wg.Wait()
		if resp := g.roundTrip(request("POST", "/v1/infer", promptBase)); resp.StatusCode != 200 {
			t.Errorf("after the others ended: %d", resp.StatusCode)
		}
	})
}

func TestLargeBody(t *testing.T) {
	g := newRig(t, func(c *Config) { c.Limits.BodyBytes = 1000 })
	for _, known := range []bool{true, false} {
		r := request("POST", "/v1/infer", `{"model":"`+strings.Repeat("m", 1000)+`"}`)
		if !known {
			r.ContentLength = -1
		}
		resp := g.roundTrip(r)
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(string(body), "1000 bytes") {
			t.Errorf("length known %v: %d %s", known, resp.StatusCode, body)
		}
	}
}

func TestLargeHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		l, stop := serve(t, g)
		defer stop()
		c := l.dial()
		defer c.Close()
		go func() { // until the server has had enough
			_, _ = fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", strings.Repeat("x", 100<<10))
		}()
		if status, _ := readReply(t, c); status != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%d", status)
		}
	})
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		g.svc.hook = func(ctx context.Context, _ func(infer.Event) error) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Hour):
				return nil
			}
		}
		l := newPipeListener()
		done := make(chan error, 1)
		go func() { done <- g.Serve(l) }()
		stream, whole := l.dial(), l.dial()
		raw(t, stream, "/v1/chat/completions", strings.TrimSuffix(chatBase, "}")+`,"stream":true}`, len(chatBase)+len(`,"stream":true`))
		raw(t, whole, "/v1/infer", promptBase, len(promptBase))
		replies := make(chan string, 2)
		for _, c := range []net.Conn{stream, whole} {
			go func() {
				_, body := readReply(t, c)
				replies <- body
			}()
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		begun := time.Now()
		shut := make(chan error)
		go func() { shut <- g.Shutdown(ctx) }()
		synctest.Wait()
		if resp := g.roundTrip(request("POST", "/v1/infer", promptBase)); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
			t.Errorf("a new request: %d", resp.StatusCode)
		}
		if resp := g.roundTrip(request("GET", "/readyz", "")); resp.StatusCode != 503 {
			t.Errorf("readyz while draining: %d", resp.StatusCode)
		}
		if resp := g.roundTrip(request("GET", "/healthz", "")); resp.StatusCode != 200 {
			t.Errorf("healthz while draining: %d", resp.StatusCode)
		}
		if err := <-shut; err == nil || time.Since(begun) < 5*time.Second || time.Since(begun) > 6*time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		for range 2 {
			if body := <-replies; !strings.Contains(body, "draining") || strings.Contains(body, "[DONE]") {
				t.Errorf("what was in progress ends with %q", body)
			}
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestShutdownWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		g.svc.hook = func(context.Context, func(infer.Event) error) error { time.Sleep(time.Second); return nil }
		l, stop := serve(t, g)
		_ = stop
		c := l.dial()
		raw(t, c, "/v1/infer", promptBase, len(promptBase))
		got := make(chan int, 1)
		go func() { status, _ := readReply(t, c); got <- status }()
		synctest.Wait()
		if err := g.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if status := <-got; status != 200 {
			t.Errorf("a request in progress: %d", status)
		}
	})
}

// A bug in the middle of a stream must not look like its end.
func TestPanicMidStream(t *testing.T) {
	g := newRig(t, nil)
	resp := g.roundTrip(request("POST", "/v1/chat/completions", strings.Replace(strings.TrimSuffix(chatBase, "}")+`,"stream":true}`, `"m"`, `"panics"`, 1)))
	body, _ := io.ReadAll(resp.Body)
	if strings.Contains(string(body), "[DONE]") || !strings.Contains(string(body), "internal_error") || strings.Contains(string(body), "a bug") {
		t.Errorf("%s", body)
	}
	g = newRig(t, func(c *Config) { c.Ready = func() error { panic("a bug") } })
	if resp := g.roundTrip(request("GET", "/readyz", "")); resp.StatusCode != 500 {
		t.Errorf("a panic in a handler: %d", resp.StatusCode)
	}
}

// fakeConn has an address and nothing else.
type fakeConn struct {
	net.Conn
	addr   string
	closed *bool
}

func (c fakeConn) RemoteAddr() net.Addr { a, _ := net.ResolveTCPAddr("tcp", c.addr); return a }
func (c fakeConn) Close() error         { *c.closed = true; return nil }

type listOfConns struct{ conns []net.Conn }

func (l *listOfConns) Accept() (net.Conn, error) {
	if len(l.conns) == 0 {
		return nil, io.EOF
	}
	c := l.conns[0]
	l.conns = l.conns[1:]
	return c, nil
}
func (l *listOfConns) Close() error   { return nil }
func (l *listOfConns) Addr() net.Addr { return pipeAddr{} }

func TestConnectionCaps(t *testing.T) {
	var inner listOfConns
	closed := make([]bool, 8)
	for i, addr := range []string{"10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3", "[::ffff:10.0.0.1]:4", "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "10.0.0.2:1"} {
		inner.conns = append(inner.conns, fakeConn{addr: addr, closed: &closed[i]})
	}
	l := limitListener(&inner, 5, 2)
	var open []net.Conn
	for {
		c, err := l.Accept()
		if err != nil {
			break
		}
		open = append(open, c)
	}
	if got := fmt.Sprint(closed); got != "[false false true true false false false true]" { // the third of one address, and the sixth in all
		t.Errorf("closed %s", got)
	}
	for _, c := range open {
		c.Close()
		c.Close() // twice must not count twice
	}
	if l.total != 0 || len(l.byIP) != 0 {
		t.Errorf("after all closed: %d, %v", l.total, l.byIP)
	}
}

func metricsOf(t *testing.T, g *rig) string {
	t.Helper()
	resp := g.roundTrip(request("GET", "/metrics", ""))
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp.StatusCode, err)
	}
	return string(body)
}

func TestMetrics(t *testing.T) {
	g := newRig(t, nil)
	g.roundTrip(request("POST", "/v1/infer", promptBase))
	g.roundTrip(request("POST", "/v1/chat/completions", strings.Replace(chatBase, `"m"`, `"nonesuch"`, 1)))
	g.roundTrip(request("GET", "/nowhere/at/all", ""))
	out := metricsOf(t, g)
	for _, want := range []string{
		`lamina_http_requests_total{code="200",route="POST /v1/infer"} 1`,
		`lamina_http_requests_total{code="404",route="POST /v1/chat/completions"} 1`,
		`lamina_http_requests_total{code="404",route="none"} 1`,
		`lamina_time_to_first_token_seconds_count{model="m"} 1`,
		`lamina_inter_token_seconds_count{model="m"} 4`,
		`lamina_prompt_tokens_total{model="m"} 3`,
		`lamina_completion_tokens_total{model="m"} 5`,
		`lamina_requests_in_flight 0`,
	} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("missing %s", want)
		}
	}
	if strings.Contains(out, "nonesuch") || strings.Contains(out, "nowhere") {
		t.Error("a label has what a client wrote: its values have no bound")
	}
	g.cl.ready = errors.New("no leader")
	resp := g.roundTrip(request("GET", "/readyz", ""))
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 503 || !bytes.Contains(body, []byte("no leader")) {
		t.Errorf("readyz: %d %s", resp.StatusCode, body)
	}
}
