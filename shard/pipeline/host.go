package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Host is one node's end of the pipelines: it serves stages and drives sequences. Safe for concurrent use.
type Host struct {
	cfg     HostConfig
	dropped counters
	pool    FramePool
	// compute is held during a step: the stages of a node share its workers.
	compute sync.Mutex

	mu     sync.RWMutex // guards what follows
	stages map[place]*runner
	rides  map[uint64]*ride
	paces  map[uint64]pace  // of the routes, by epoch
	lines  map[uint64]*line // for the routes' memory, by epoch
	closed bool
	wg     sync.WaitGroup // one runner per stage
}

// place is where frames say they go.
type place struct {
	epoch uint64
	index int
}

// NewHost returns a Host with nothing to serve. Self and Send must be set.
func NewHost(cfg HostConfig) *Host {
	cfg.Limits = cfg.Limits.withDefaults()
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	return &Host{cfg: cfg, stages: make(map[place]*runner), rides: make(map[uint64]*ride), paces: make(map[uint64]pace), lines: make(map[uint64]*line)}
}

// queue calls f with the line for the memory of an epoch's route.
func (h *Host) queue(epoch uint64, f func(*line) bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.lines[epoch]
	if l == nil {
		l = new(line)
		h.lines[epoch] = l
	}
	is := f(l)
	if len(l.waiting) == 0 {
		delete(h.lines, epoch)
	}
	return is
}

// Serve takes frames for a stage from now on. The Stepper is used by the Host alone until Stop or Close returns;
// the caller closes what is behind it after that. Errors: ErrServed, ErrClosed.
func (h *Host) Serve(key StageKey, sh Stepper) error {
	if sp := sh.Shape(); key.Index < 0 || key.Index >= MaxHops || sp.First < 0 || sp.End <= sp.First || sp.Layers < sp.End {
		return fmt.Errorf("%w: stage %d with layers %d to %d of %d", ErrRequest, key.Index, sp.First, sp.End, sp.Layers)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	at := place{key.Epoch, key.Index}
	if _, ok := h.stages[at]; ok {
		return fmt.Errorf("%w: epoch %d, hop %d", ErrServed, key.Epoch, key.Index)
	}
	r := newRunner(h, key, sh)
	h.stages[at] = r
	h.wg.Go(r.run)
	return nil
}

// Stop ends the service of a stage: its live sequences fail as Draining with the reason. It returns after the running
// step. Stopping what is not served does nothing.
func (h *Host) Stop(key StageKey, reason string) {
	at := place{key.Epoch, key.Index}
	h.mu.Lock()
	r := h.stages[at]
	delete(h.stages, at)
	h.mu.Unlock()
	if r != nil {
		r.stop(reason)
		<-r.done
	}
}

// Close stops every stage and ends every Generate with ErrClosed; it returns when the Host's goroutines have ended.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closed = true
	stages, rides := h.stages, h.rides
	h.stages, h.rides = make(map[place]*runner), make(map[uint64]*ride)
	h.mu.Unlock()
	for _, r := range rides {
		r.cancel(ErrClosed)
	}
	for _, r := range stages {
		r.stop("the node is stopping")
	}
	h.wg.Wait()
	return nil
}

// Deliver takes a frame that came from a node. It does not block for long, and the frame is the Host's from now on.
func (h *Host) Deliver(from string, f *Frame) {
	if !h.deliver(from, f) {
		f.Release()
	}
}

// deliver routes a frame; kept says that a stage will release it.
func (h *Host) deliver(from string, f *Frame) (kept bool) {
	if f.Stage == Gateway || f.has(FlagCopy) {
		h.toRide(from, f)
	}
	if f.Stage == Gateway {
		return false
	}
	h.mu.RLock()
	r := h.stages[place{f.Epoch, int(f.Stage)}]
	h.mu.RUnlock()
	if r == nil || f.Kind == KindOpen && (f.Open == nil || f.Open.Model != r.st.key.Model) {
		h.refuse(f)
		return false
	}
	return r.deliver(from, f)
}

func (h *Host) toRide(from string, f *Frame) {
	h.mu.RLock()
	r := h.rides[f.Seq]
	h.mu.RUnlock()
	if r == nil || f.Kind == KindFail && f.Fail == nil {
		h.dropped.unknown.Add(1)
		return
	}
	r.deliver(from, f)
}

// refuse answers an Open for a stage that is not here; other frames have no one to answer to.
func (h *Host) refuse(f *Frame) {
	h.dropped.unknown.Add(1)
	if f.Kind != KindOpen || f.Open == nil {
		return
	}
	why := Failure{NotLoaded, h.cfg.Self, fmt.Sprintf("hop %d of epoch %d is not served here", f.Stage, f.Epoch)}
	h.mu.RLock()
	for at, r := range h.stages {
		if r.st.key.Model == f.Open.Model && at.index == int(f.Stage) && at.epoch != f.Epoch {
			why.Kind, why.Text = WrongEpoch, fmt.Sprintf("hop %d is served under epoch %d, not %d", f.Stage, at.epoch, f.Epoch)
		}
	}
	h.mu.RUnlock()
	// If the gateway cannot be reached it has other worries.
	_ = h.send(f.Open.Gateway, &Frame{Kind: KindFail, Stage: Gateway, Seq: f.Seq, Epoch: f.Epoch, Attempt: f.Attempt, Fail: &why}, false)
}

// send takes a frame to a node, which may be this one; with more, another one for it follows. Rows that stay on the node are
// copied: they outlive the step that made them.
func (h *Host) send(to string, f *Frame, more bool) error {
	if to != h.cfg.Self {
		if g, ok := h.cfg.Send.(Gatherer); ok && more {
			return g.SendMore(to, f)
		}
		return h.cfg.Send.Send(to, f)
	}
	if f.Kind == KindStep {
		f = h.pool.Copy(f)
		h.Deliver(to, f)
		return nil
	}
	h.deliver(to, f) // keeps nothing but rows
	return nil
}

// PeerDown fails the sequences that cannot go on without node. err says what happened to it.
func (h *Host) PeerDown(node string, err error) {
	if err == nil {
		err = errors.New("the link is down")
	}
	h.mu.RLock()
	var cells []interface{ peerDown(string, error) }
	for _, r := range h.rides {
		cells = append(cells, r)
	}
	for _, r := range h.stages {
		cells = append(cells, r)
	}
	h.mu.RUnlock()
	for _, c := range cells {
		c.peerDown(node, err)
	}
}

// Load tells how busy the stages are.
func (h *Host) Load() Load {
	h.mu.RLock()
	defer h.mu.RUnlock()
	l := Load{Driving: len(h.rides)}
	for _, r := range h.stages {
		s := r.load()
		l.Sequences += s.Sequences
		l.QueuedRows += s.QueuedRows
	}
	for _, q := range h.lines {
		l.Waiting += len(q.waiting)
	}
	return l
}

// StageLoad tells how busy one stage is; zero if it is not served here.
func (h *Host) StageLoad(key StageKey) Load {
	h.mu.RLock()
	r := h.stages[place{key.Epoch, key.Index}]
	h.mu.RUnlock()
	if r == nil {
		return Load{}
	}
	return r.load()
}

// Dropped counts the frames that had no effect since the start.
func (h *Host) Dropped() Dropped {
	d := &h.dropped
	return Dropped{Stale: d.stale.Load(), Duplicate: d.duplicate.Load(), Foreign: d.foreign.Load(), Unknown: d.unknown.Load()}
}

// Generate runs one sequence over a route and hands over its tokens in order, from this goroutine. It returns when the
// sequence has ended in one way: complete, nil; emit's error, or nil for ErrStop; *Broken; *Refused; an error that wraps ErrRequest,
// ErrClosed, or the context's. In every case the sequence is closed at all hops that can be reached.
func (h *Host) Generate(ctx context.Context, r Request, emit func(Token) error) (Stats, error) {
	h.mu.RLock()
	known := h.paces[r.Epoch]
	h.mu.RUnlock()
	d, err := newDriver(r, h.cfg.Limits, known, &h.dropped)
	if err != nil {
		return Stats{}, err
	}
	if err := ctx.Err(); err != nil {
		return Stats{}, fmt.Errorf("the sequence was not begun: %w", err)
	}
	ri := newRide(h, d)
	h.mu.Lock()
	switch {
	case h.closed:
		err = ErrClosed
	case h.rides[r.Seq] != nil:
		err = fmt.Errorf("%w: sequence %#x is under way", ErrRequest, r.Seq)
	default:
		h.rides[r.Seq] = ri
	}
	h.mu.Unlock()
	if err != nil {
		return Stats{}, err
	}
	defer h.forget(r.Seq, ri)
	return ri.run(ctx, emit)
}

// maxPaces bounds what is remembered of routes; when it is full, all is learned anew.
const maxPaces = 256

// forget lets go of a ride that is over, and keeps what it has learned of the route.
func (h *Host) forget(seq uint64, r *ride) {
	learned := r.pace()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.rides[seq] == r {
		delete(h.rides, seq)
	}
	if len(h.paces) >= maxPaces {
		clear(h.paces)
	}
	h.paces[r.d.r.Epoch] = learned
	if l := h.lines[r.d.r.Epoch]; l != nil {
		l.poke() // what it held may be free now
	}
}
