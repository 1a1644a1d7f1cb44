package server

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"lamina/node/infer"
)

// routeHeader says which nodes served an answer: "n1[0:10] n2[10:20]"; several routes are separated by commas.
const routeHeader = "Lamina-Route"

// sink takes what the answers to one request's prompts bring. Calls come one at a time; i says which answer. Its errors
// end the request.
type sink interface {
	started(i int, st infer.Started) error
	event(i int, ev infer.Event) error
	finished(i int, res infer.Result) error
}

// generate runs every request, a few at a time, into the sink. The first error ends the others and is returned.
func (s *Server) generate(x *exchange, reqs []infer.Request, out sink) error {
	ctx, cancel := context.WithCancelCause(x.r.Context())
	defer cancel(nil)
	g := group{s: s, x: x, out: out}
	turn := make(places, s.cfg.Limits.Parallel)
	var wg sync.WaitGroup
	for i, r := range reqs {
		turn <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer turn.give()
			if err := g.one(ctx, i, r); err != nil {
				g.fail(err)
				cancel(err)
			}
		})
	}
	wg.Wait()
	if g.err == nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return g.err
}

// group is the answers of one request; mu orders their calls of the sink.
type group struct {
	s   *Server
	x   *exchange
	mu  sync.Mutex
	out sink
	err error
}

func (g *group) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
	}
}

// errPanic is a bug in what answers; the log has where.
var errPanic = errors.New("the request met a bug")

// one runs one request and counts it. It runs on a goroutine of its own, so a panic must end here: it would take the
// whole node along.
func (g *group) one(ctx context.Context, i int, r infer.Request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			g.s.cfg.Log.ErrorContext(ctx, "answer panicked", "request", g.x.id, "panic", p, "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	var model string
	var last time.Time
	res, err := g.s.cfg.Service.Generate(ctx, r, func(st infer.Started) error {
		model = st.Model
		g.s.meter.tokensIn.WithLabelValues(model).Add(float64(st.PromptTokens))
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.out.started(i, st)
	}, func(ev infer.Event) error {
		if !r.Echo { // the prompt's own tokens say nothing about speed
			last = g.s.meter.piece(model, g.x.begun, last, g.s.now())
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if err := g.out.event(i, ev); err != nil {
			return err
		}
		g.x.emitted += len(ev.Tokens)
		return nil
	})
	if model != "" {
		g.s.meter.tokensOut.WithLabelValues(model).Add(float64(res.CompletionTokens))
	}
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.out.finished(i, res)
}

// answer is one answer as a whole.
type answer struct {
	infer.Started
	infer.Result
	text   strings.Builder
	tokens []infer.TokenInfo
}

// collector is the sink of requests that are not streamed.
type collector struct{ answers []answer }

func newCollector(n int) *collector { return &collector{answers: make([]answer, n)} }

func (c *collector) started(i int, st infer.Started) error {
	c.answers[i].Started = st
	return nil
}

func (c *collector) event(i int, ev infer.Event) error {
	c.answers[i].text.WriteString(ev.Text)
	c.answers[i].tokens = append(c.answers[i].tokens, ev.Tokens...)
	return nil
}

func (c *collector) finished(i int, res infer.Result) error {
	c.answers[i].Result = res
	return nil
}

// route is every route that was taken, each once.
func (c *collector) route() string {
	var routes []string
	seen := map[string]bool{}
	for i := range c.answers {
		if r := c.answers[i].Route; !seen[r] {
			seen[r] = true
			routes = append(routes, r)
		}
	}
	return strings.Join(routes, ", ")
}

// repeat makes n requests of one, with seeds that count up from the first.
func repeat(r infer.Request, n int) []infer.Request {
	out := make([]infer.Request, n)
	for i := range out {
		out[i] = r
		out[i].Sampling.Seed += uint64(i)
	}
	return out
}

func randomSeed() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand
	return binary.LittleEndian.Uint64(b[:])
}

// minLogprob stands for the logarithm of nothing: JSON has no infinity. The number is OpenAI's.
const minLogprob = -9999

func finiteLogprob(f float32) float32 {
	if !(f > minLogprob) { // NaN too
		return minLogprob
	}
	return f
}

// tokenText is a token's bytes as text; parts of characters become U+FFFD.
func tokenText(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }
