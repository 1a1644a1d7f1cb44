package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// giveUpAfter failures in a row a load ends: nobody is there.
const giveUpAfter = 64

// progressEvery is how often Progress is told.
const progressEvery = 250 * time.Millisecond

// Run makes the loads one after the other. If ctx ends, the report says what was measured until then, and the error is the
// context's. Requests that fail are in the report; an error means that nothing could be asked at all.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c := newClient(&cfg)
	defer c.close()
	if cfg.Model == "" {
		name, err := c.models(ctx)
		if err != nil {
			return nil, err
		}
		cfg.Model = name
	}
	s, counted, err := c.calibrate(ctx)
	if err != nil {
		return nil, err
	}
	rep := newReport(&cfg)
	if !counted {
		rep.remark("The server does not report usage: a piece of the stream is taken for a token, a word of the prompt for a token.")
	}
	for i, load := range cfg.Loads {
		p, err := runLoad(ctx, &cfg, s, i, load)
		if p != nil {
			rep.Points = append(rep.Points, *p)
		}
		if err != nil {
			rep.finish()
			return rep, err
		}
	}
	rep.finish()
	return rep, nil
}

// calibrate learns how many tokens the server makes of words. That is also the proof that it answers.
func (c *client) calibrate(ctx context.Context) (s scale, counted bool, err error) {
	const w1, w2 = 16, 80
	var tokens [2]int
	for i, w := range []int{w1, w2} {
		probe := *c.cfg
		probe.Prompt, probe.Answer, probe.Prefix, probe.Turns = Fixed(w), Fixed(1), 0, 1
		v := probe.talk(scale{each: 1}, "calibration", i)
		o := c.ask(ctx, []message{{"user", v.turns[0].text}}, 1, time.Now())
		if o.fail != nil {
			if ctx.Err() != nil {
				return s, false, context.Cause(ctx)
			}
			return s, false, fmt.Errorf("the first request to %s failed: %w", c.base+c.path(), o.fail)
		}
		tokens[i], counted = o.prompt, o.usage
	}
	if !counted {
		return scale{each: 1}, false, nil
	}
	return scaleOf(w1, tokens[0], w2, tokens[1]), true, nil
}

// runner makes one load.
type runner struct {
	cfg     *Config
	load    Load
	scale   scale
	client  *client
	purpose string // which random numbers are drawn
	talks   int    // how many conversations; 0: no bound
	want    int    // how many requests; 0: no bound
	begun   time.Time
	until   time.Time // no new requests after; zero: no bound

	next    atomic.Int64 // number of the next conversation
	running atomic.Int64
	inARow  atomic.Int64 // failures
	gaveUp  atomic.Bool
	tally   *tally
}

// runLoad warms up, makes a load, and sums it up; with an error too if ctx ended it.
func runLoad(ctx context.Context, cfg *Config, s scale, i int, load Load) (*Point, error) {
	c := newClient(cfg)
	defer c.close()
	if cfg.Warmup > 0 {
		warm := &runner{cfg: cfg, scale: s, client: c, purpose: fmt.Sprint("warm-up ", i), talks: cfg.Warmup, want: cfg.Warmup, tally: newTally(time.Now()),
			load: Load{Concurrency: max(min(load.Concurrency, cfg.Warmup), 1)}}
		warm.closed(ctx)
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
	}
	n := cfg.requests(load)
	now := time.Now()
	r := &runner{cfg: cfg, load: load, scale: s, client: c, purpose: fmt.Sprint("load ", i), want: n, talks: (n + cfg.Turns - 1) / cfg.Turns,
		begun: now, tally: newTally(now)}
	if cfg.Duration > 0 {
		r.until = now.Add(cfg.Duration)
	}
	stop := r.watch()
	if load.Rate > 0 {
		r.open(ctx)
	} else {
		r.closed(ctx)
	}
	stop()
	p := r.tally.point(load)
	if r.gaveUp.Load() {
		p.GaveUp = fmt.Sprintf("gave up after %d failures in a row", giveUpAfter)
	}
	return p, context.Cause(ctx)
}

// more says whether another request may start.
func (r *runner) more(ctx context.Context) bool {
	return ctx.Err() == nil && !r.gaveUp.Load() && (r.until.IsZero() || time.Now().Before(r.until))
}

// closed keeps Concurrency conversations going.
func (r *runner) closed(ctx context.Context) {
	var all sync.WaitGroup
	for range r.load.Concurrency {
		all.Go(func() {
			for r.more(ctx) {
				n := int(r.next.Add(1) - 1)
				if r.talks > 0 && n >= r.talks {
					return
				}
				r.converse(ctx, n, time.Now())
			}
		})
	}
	all.Wait()
}

// open starts conversations when they are due, whatever became of the earlier ones.
func (r *runner) open(ctx context.Context) {
	var all sync.WaitGroup
	slots := make(chan struct{}, r.cfg.InFlight)
	due := newArrivals(r.load, r.arrivalRandom())
	for n := 0; (r.talks == 0 || n < r.talks) && r.more(ctx); n++ {
		at := r.begun.Add(due.next())
		if !r.until.IsZero() && at.After(r.until) || !sleep(ctx, time.Until(at)) {
			break
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		all.Go(func() {
			defer func() { <-slots }()
			r.converse(ctx, n, at)
		})
	}
	all.Wait()
}

func (r *runner) arrivalRandom() *rand.Rand { return random(r.cfg.Seed, r.purpose+" arrivals") }

// converse asks the turns of conversation n, the first due at a time, each later one a pause after the answer before it.
func (r *runner) converse(ctx context.Context, n int, due time.Time) {
	v := r.cfg.talk(r.scale, r.purpose, n)
	var past []message
	for i, t := range v.turns {
		if r.want > 0 && n*r.cfg.Turns+i >= r.want {
			return
		}
		if i > 0 {
			if !r.more(ctx) || !sleep(ctx, r.cfg.Think) {
				return
			}
			due = time.Now()
		}
		past = append(past, message{"user", t.text})
		fresh := i == 0 && (r.cfg.Prefix == 0 || r.tally.firstOf(v.group))
		r.running.Add(1)
		o := r.client.ask(ctx, past, t.answer, due)
		r.running.Add(-1)
		r.tally.add(&o, request{n*r.cfg.Turns + i, fresh, t})
		if o.fail != nil {
			if o.fail.kind != failStopped && r.inARow.Add(1) >= giveUpAfter {
				r.gaveUp.Store(true)
			}
			return // the rest of the conversation has nothing to refer to
		}
		r.inARow.Store(0)
		past = append(past, message{"assistant", o.text})
	}
}

// watch tells Progress how far the load is, until the returned function is called.
func (r *runner) watch() func() {
	if r.cfg.Progress == nil {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() { // ends by the returned function
		defer close(ended)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				r.cfg.Progress(r.snapshot(time.Now()))
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

func (r *runner) snapshot(now time.Time) Snapshot {
	s := Snapshot{Load: r.load, Running: int(r.running.Load()), Want: r.want, Elapsed: now.Sub(r.begun)}
	if !r.until.IsZero() {
		s.Total = r.until.Sub(r.begun)
	}
	r.tally.fill(&s)
	return s
}

// sleep waits; false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
