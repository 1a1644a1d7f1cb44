package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lamina/cluster"
	"lamina/node/infer"
	"lamina/node/records"
)

// ask sends a request to a rig's handler.
func (g *rig) ask(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	r := g.roundTrip(request(method, path, body, "Content-Type", "application/json", "Authorization", "Bearer "+g.admin))
	return r.StatusCode, readAll(t, r)
}

// response asks for an object.
func (g *rig) response(t *testing.T, method, path, body string) responseObject {
	t.Helper()
	status, text := g.ask(t, method, path, body)
	var o responseObject
	if err := json.Unmarshal([]byte(text), &o); err != nil || status != 200 {
		t.Fatalf("%s %s: %d %s %v", method, path, status, text, err)
	}
	return o
}

const inBackground = `{"model":"m","input":"x","background":true}`

// gate lets the fake model's tokens through one by one.
func (g *rig) gate() chan struct{} {
	next := make(chan struct{})
	g.svc.hook = func(ctx context.Context, _ func(infer.Event) error) error {
		select {
		case <-next:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return next
}

// A response in the background goes on without a client; it can be looked at, followed from any event, and is there when it is over,
// until its time is over.
func TestBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		g.now = time.Now
		next := g.gate()
		o := g.response(t, "POST", responsesPath, inBackground)
		if o.Status != statusInProgress && o.Status != statusQueued || !o.Background {
			t.Fatalf("begun as %+v", o)
		}
		path := responsesPath + "/" + o.ID
		next <- struct{}{}
		next <- struct{}{}
		synctest.Wait()
		if o = g.response(t, "GET", path, ""); o.Status != statusInProgress || o.Output[0].Content[0].Text != "Hell" {
			t.Fatalf("after two tokens %+v", o)
		}
		whole := make(chan string)
		go func() { _, s := g.ask(t, "GET", path+"?stream=true", ""); whole <- s }()
		for range 3 {
			next <- struct{}{}
		}
		all := <-whole
		if !strings.HasPrefix(all, "id: 0\nevent: response.created\n") || !strings.Contains(all, "id: 1\nevent: response.queued\n") || !strings.Contains(all, "event: response.completed\n") {
			t.Fatalf("the stream is %s", all)
		}
		for n := range strings.Count(all, "id: ") {
			_, rest, _ := strings.Cut(all, fmt.Sprintf("id: %d\n", n))
			_, rest, _ = strings.Cut(rest, "\n\n")
			if _, got := g.ask(t, "GET", fmt.Sprintf("%s?stream=true&starting_after=%d", path, n), ""); got != rest {
				t.Fatalf("after %d: %s\nwant %s", n, got, rest)
			}
		}
		if o = g.response(t, "GET", path, ""); o.Status != statusCompleted || o.Output[0].Content[0].Text != "Hellö!" || o.Usage.TotalTokens != 8 {
			t.Errorf("at the end %+v", o)
		}
		if len(g.places) != 0 {
			t.Errorf("%d places are still taken", len(g.places))
		}
		time.Sleep(recordLife) // virtual
		if status, text := g.ask(t, "GET", path, ""); status != 404 || !strings.Contains(text, "response_not_found") {
			t.Errorf("ten minutes later: %d %s", status, text)
		}
	})
}

func TestBackgroundCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		next := g.gate()
		path := responsesPath + "/" + g.response(t, "POST", responsesPath, inBackground).ID
		next <- struct{}{}
		followed := make(chan string)
		go func() { _, s := g.ask(t, "GET", path+"?stream=true", ""); followed <- s }()
		synctest.Wait()
		o := g.response(t, "POST", path+"/cancel", "")
		if o.Status != statusCancelled || o.Output[0].Content[0].Text != "He" || o.Output[0].Status != statusIncomplete {
			t.Errorf("cancelled: %+v", o)
		}
		if s := <-followed; !strings.Contains(s, `"status":"cancelled"`) {
			t.Errorf("who followed saw %s", s)
		}
		if again := g.response(t, "POST", path+"/cancel", ""); again.Status != statusCancelled {
			t.Errorf("cancelled twice: %+v", again)
		}
		synctest.Wait()
		if len(g.places) != 0 {
			t.Errorf("%d places are still taken", len(g.places))
		}
		g.svc.hook = nil
		g.newID = func() string { return "another" }
		whole := g.response(t, "POST", responsesPath, `{"model":"m","input":"x"}`)
		if status, text := g.ask(t, "POST", responsesPath+"/"+whole.ID+"/cancel", ""); status != 409 || !strings.Contains(text, "not_background") {
			t.Errorf("one that was not in the background: %d %s", status, text)
		}
	})
}

// The background has as many places as requests have, and a key sees only its own responses.
func TestBackgroundBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, func(c *Config) { c.Limits.InFlight = 3 })
		ids := 0
		g.newID = func() string { ids++; return fmt.Sprint(ids) }
		g.gate()
		first := g.response(t, "POST", responsesPath, inBackground)
		g.response(t, "POST", responsesPath, inBackground)
		if status, text := g.ask(t, "POST", responsesPath, inBackground); status != 429 || !strings.Contains(text, "rate_limit_exceeded") {
			t.Errorf("a third beside the request itself: %d %s", status, text)
		}
		mine := g.admin
		g.admin = g.cl.addKey("eve", cluster.Admin).String()
		if status, _ := g.ask(t, "GET", responsesPath+"/"+first.ID, ""); status != 404 {
			t.Errorf("another key sees it: %d", status)
		}
		if status, _ := g.ask(t, "POST", responsesPath+"/"+first.ID+"/cancel", ""); status != 404 {
			t.Errorf("another key may cancel it: %d", status)
		}
		g.admin = mine
		g.response(t, "POST", responsesPath+"/"+first.ID+"/cancel", "")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_ = g.Shutdown(ctx) // ends the other one
	})
}

// pair is two servers that know each other's responses and records; down makes the first unreachable.
func pair(t *testing.T) (a, b *rig, down *bool) {
	down = new(bool)
	shared := NewRecords()
	var peers [2]http.Handler
	for i, g := range []**rig{&a, &b} {
		name := fmt.Sprint("n", i)
		*g = newRig(t, func(c *Config) {
			c.Records = together{shared, name}
			c.Peer = func(_ context.Context, node, method, path string) (*http.Response, error) {
				if node == name || *down {
					return nil, errors.New("unreachable")
				}
				w := &liveRecorder{httptest.NewRecorder()}
				func() {
					defer func() { _ = recover() }() // an aborted stream: what came before it stands
					peers[node[1]-'0'].ServeHTTP(w, httptest.NewRequest(method, path, nil))
				}()
				return w.Result(), nil
			}
		})
		peers[i] = (*g).PeerHandler()
	}
	b.cl.keys = a.cl.keys
	b.admin = a.admin
	return a, b, down
}

// liveRecorder is a ResponseRecorder that net/http's controller can flush.
type liveRecorder struct{ *httptest.ResponseRecorder }

// together keeps records for both.
type together struct {
	*records.Store
	node string
}

// Keep implements Records.
func (l together) Keep(_ context.Context, r records.Record) string {
	r.Node = l.node
	_ = l.Put(r)
	return "shared"
}

// Find implements Records.
func (l together) Find(_ context.Context, owner, id string) (records.Record, bool) {
	return l.Get(owner, id)
}

// A response is asked for at another node than the one that runs it; that node is lost; the other goes on with the same events.
func TestResponseAtAnotherNode(t *testing.T) {
	a, b, down := pair(t)
	o := a.response(t, "POST", responsesPath, inBackground)
	path := responsesPath + "/" + o.ID
	a.runs.get(a.cl.bossKey(), o.ID).wait(t.Context())
	_, want := a.ask(t, "GET", path+"?stream=true", "")
	if !strings.Contains(want, "response.completed") {
		t.Fatalf("want %s", want)
	}
	if _, got := b.ask(t, "GET", path+"?stream=true", ""); got != want {
		t.Errorf("through the other node:\n%s\nwant\n%s", got, want)
	}
	if got := b.response(t, "GET", path, ""); got.Status != statusCompleted {
		t.Errorf("through the other node: %+v", got)
	}
	if b.runs.get(a.cl.bossKey(), o.ID) != nil {
		t.Error("the other node ran it though its own node is there")
	}
	*down = true
	if _, got := b.ask(t, "GET", path+"?stream=true&starting_after=4", ""); !strings.HasSuffix(want, got) || !strings.HasPrefix(got, "id: 5\n") {
		t.Errorf("taken over:\n%s\nwant the end of\n%s", got, want)
	}
	if b.svc.last().Sampling.Seed != a.svc.last().Sampling.Seed {
		t.Error("it was taken over with another seed")
	}
}

// bossKey is the id of the key that both rigs ask with.
func (f *fakeCluster) bossKey() string {
	for id, k := range f.keys {
		if k.Note == "boss" {
			return id
		}
	}
	return ""
}
