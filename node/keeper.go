package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"lamina/cluster"
	"lamina/cluster/plan"
	"lamina/kernels"
	"lamina/shard"
	"lamina/shard/gguf"
	"lamina/shard/pipeline"
)

// A keeper makes what this node has loaded equal to what the placements say: it fetches the blobs of a span, opens the
// shard, serves the stage, and tells the cluster. What is not wanted any more is stopped and its memory given back.
type keeper struct {
	self    string
	inc     uint64 // incarnation of this process
	host    *pipeline.Host
	blobs   blobSource
	propose func(context.Context, cluster.Command) error
	workers *kernels.Workers
	budget  *budget
	meter   *meter
	spare   func() int64 // memory that may be taken now
	dir     string       // where the blobs of what is served are remembered; empty: nowhere
	log     *slog.Logger

	wg sync.WaitGroup
	mu struct {
		sync.Mutex
		stages map[uint64]*stage // by epoch
		closed bool
	}
}

// blobSource brings blobs from this node's disk or from peers.
type blobSource interface {
	metaSource
	// Map is Load from the file itself where that is possible: slower to read, and a fault if the disk fails. mapped says whether
	// it is so.
	Map(ctx context.Context, b cluster.Blob) (data []byte, free func(), mapped bool, err error)
	// Distrust makes the next Load or Map verify the blob again.
	Distrust(b cluster.Blob)
}

// metaSource is what bringing a model's metadata takes.
type metaSource interface {
	// Ensure makes the blob present on this node's disk; it may take as long as ctx lasts.
	Ensure(ctx context.Context, m cluster.Model, b cluster.Blob) error
	// Load returns the verified bytes of a present blob, in memory, until free is called.
	Load(ctx context.Context, b cluster.Blob) (data []byte, free func(), err error)
}

// stage is one span that this node is meant to hold. It belongs to the goroutine that runs it until done is closed.
type stage struct {
	key    pipeline.StageKey
	model  cluster.Model
	hop    cluster.Hop
	ctx    context.Context // ends when the stage is not wanted any more
	cancel context.CancelCauseFunc
	done   chan struct{}
	bytes  int64 // of the weights
	// Guarded by keeper.mu: the stage takes frames; the cluster is being told so.
	served, telling bool
}

// errUnwanted ends a stage that no placement wants.
var errUnwanted = errors.New("the placement does not need it any more")

// retryMin and retryMax space out attempts to load what failed for a reason that may pass.
const (
	retryMin = 250 * time.Millisecond
	retryMax = 5 * time.Second
)

func newKeeper(self string, inc uint64, host *pipeline.Host, src blobSource, propose func(context.Context, cluster.Command) error, workers *kernels.Workers, b *budget, m *meter, log *slog.Logger) *keeper {
	k := &keeper{self: self, inc: inc, host: host, blobs: src, propose: propose, workers: workers, budget: b, meter: m, spare: spareMemory, log: log}
	k.mu.stages = map[uint64]*stage{}
	return k
}

// update starts what the state wants of this node and stops the rest. It does not wait.
func (k *keeper) update(s cluster.State) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.mu.closed {
		return
	}
	if m, ok := s.Member(k.self); !ok || m.Incarnation != k.inc {
		return // the cluster does not know this process yet; what it says is about an earlier one
	}
	wanted := map[uint64]bool{}
	for _, p := range s.Placements {
		if _, _, on := p.On(k.self); on && p.Phase != cluster.Gone {
			wanted[p.Epoch] = true
		}
	}
	// What is not wanted goes first: it may hold the memory that the new needs.
	for epoch, st := range k.mu.stages {
		if !wanted[epoch] {
			st.cancel(errUnwanted)
		}
	}
	for _, p := range s.Placements {
		if hop, index, on := p.On(k.self); on && p.Phase.Active() {
			k.want(s, p, hop, index)
		}
	}
}

// want sees to one active placement with a hop on this node; k.mu is held.
func (k *keeper) want(s cluster.State, p cluster.Placement, hop cluster.Hop, index int) {
	if st, have := k.mu.stages[p.Epoch]; have {
		if st.served && !st.telling && !hop.Ready {
			// The cluster took this node for lost, and takes it back: it must hear again that the span is here.
			st.telling = true
			k.wg.Go(func() { k.tellReady(st) })
		}
		return
	}
	if m, known := s.ModelByDigest(p.Model); known {
		k.start(m, hop, pipeline.StageKey{Model: p.Model, Epoch: p.Epoch, Index: index})
	}
}

// tellReady tells the cluster that the span is loaded; st.telling is set.
func (k *keeper) tellReady(st *stage) {
	k.tell(st.ctx, cluster.HopReady{Epoch: st.key.Epoch, Node: k.self, Incarnation: k.inc, At: time.Now()}, k.log)
	k.mu.Lock()
	st.telling = false
	k.mu.Unlock()
}

// start runs a stage; k.mu is held.
func (k *keeper) start(m cluster.Model, hop cluster.Hop, key pipeline.StageKey) {
	ctx, cancel := context.WithCancelCause(context.Background())
	st := &stage{key: key, model: m, hop: hop, ctx: ctx, cancel: cancel, done: make(chan struct{})}
	k.mu.stages[key.Epoch] = st
	k.wg.Go(func() {
		defer close(st.done)
		k.run(ctx, st)
		k.mu.Lock()
		delete(k.mu.stages, key.Epoch)
		k.mu.Unlock()
	})
}

// run loads, serves until ctx ends, and unloads.
func (k *keeper) run(ctx context.Context, st *stage) {
	log := k.log.With("model", st.model.Name, "layers", fmt.Sprintf("%d:%d", st.hop.First, st.hop.End), "epoch", st.key.Epoch)
	log.Info("loading a span")
	begun := time.Now()
	loaded, err := k.load(ctx, st, log)
	if err != nil {
		if ctx.Err() == nil {
			log.Error("a span cannot be loaded", "err", err)
			k.tell(ctx, cluster.HopFailed{Epoch: st.key.Epoch, Node: k.self, Incarnation: k.inc, Reason: err.Error(), At: time.Now()}, log)
		}
		<-ctx.Done() // until the placement is gone: no second try of the same
		return
	}
	defer k.budget.giveWeights(st.bytes)
	defer loaded.free()
	defer k.meter.forget(st.model.Digest)
	served := &stepper{Stepper: pipeline.ForShard(loaded.shard), info: loaded.shard.Info(), span: loaded.shard.Span(), meter: k.meter, model: st.model.Digest}
	fault := make(chan error, 1)
	served.fault = func(err error) {
		select {
		case fault <- err:
		default: // the first is enough
		}
	}
	served.answer, served.prompt = plan.StepBytes(st.model, st.hop.First, st.hop.End)
	if err := k.host.Serve(st.key, served); err != nil {
		log.Error("a stage cannot be served", "err", err)
		<-ctx.Done()
		return
	}
	log.Info("a span is loaded", "seconds", time.Since(begun).Seconds(), "bytes", st.bytes)
	k.mu.Lock()
	st.served, st.telling = true, true
	k.remember()
	k.mu.Unlock()
	k.tellReady(st)
	if err := k.settle(ctx, st, loaded, log); err != nil && ctx.Err() == nil {
		served.fault(err)
	}
	select {
	case <-ctx.Done():
		k.host.Stop(st.key, context.Cause(ctx).Error())
	case err := <-fault:
		k.lost(ctx, st, err, log)
	}
	log.Info("a span is closed")
}

// remember notes the blobs of what is served for the next start; k.mu is held.
func (k *keeper) remember() {
	if k.dir == "" {
		return
	}
	var digests []string
	for _, st := range k.mu.stages {
		if st.served {
			for _, b := range st.model.SpanBlobs(st.hop.First, st.hop.End) {
				digests = append(digests, b.Digest)
			}
		}
	}
	if err := remember(k.dir, digests); err != nil {
		k.log.Debug("the next start will take longer", "err", err)
	}
}

// lost gives up a stage whose weights cannot be read any more; its blobs are verified again before they are used.
func (k *keeper) lost(ctx context.Context, st *stage, err error, log *slog.Logger) {
	log.Error("the weights of a span cannot be read any more", "err", err)
	k.host.Stop(st.key, err.Error())
	for _, b := range st.model.SpanBlobs(st.hop.First, st.hop.End) {
		k.blobs.Distrust(b)
	}
	k.tell(ctx, cluster.HopFailed{Epoch: st.key.Epoch, Node: k.self, Incarnation: k.inc, Reason: err.Error(), At: time.Now()}, log)
	<-ctx.Done() // until the placement is gone
}

// tell proposes until the cluster has agreed, refused it for good, or the stage is not wanted.
func (k *keeper) tell(ctx context.Context, c cluster.Command, log *slog.Logger) {
	for wait := retryMin; ; wait = min(2*wait, retryMax) {
		err := k.propose(ctx, c)
		if err == nil || refusedForGood(err) {
			if err != nil {
				log.Debug("the cluster has moved on", "err", err)
			}
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func refusedForGood(err error) bool {
	return errors.Is(err, cluster.ErrStale) || errors.Is(err, cluster.ErrNotFound) || errors.Is(err, cluster.ErrInvalid)
}

// loadedShard is an open shard with the memory its weights stand in, by the names of the blobs.
type loadedShard struct {
	shard  *shard.Shard
	frees  map[string]func()
	mapped map[string]bool
}

func (l *loadedShard) free() {
	if l.shard != nil {
		_ = l.shard.Close() // frees memory only; there is nothing to lose
	}
	for _, f := range l.frees {
		f()
	}
}

// load brings the blobs and opens the shard. Errors that may pass (no peer has a blob just now) are tried again.
func (k *keeper) load(ctx context.Context, st *stage, log *slog.Logger) (*loadedShard, error) {
	want := st.model.SpanBlobs(st.hop.First, st.hop.End)
	if want == nil {
		return nil, fmt.Errorf("%w: layers %d:%d of a model with %d", cluster.ErrInvalid, st.hop.First, st.hop.End, st.model.Layers)
	}
	st.bytes = sum(want)
	if err := k.takeWeights(ctx, st); err != nil {
		return nil, err
	}
	for wait := retryMin; ; wait = min(2*wait, retryMax) {
		l, err := k.open(ctx, st, want)
		if err == nil {
			return l, nil
		}
		if permanent(err) || ctx.Err() != nil {
			k.budget.giveWeights(st.bytes)
			return nil, err
		}
		log.Warn("blobs are not to be had yet; trying again", "err", err, "after", wait)
		select {
		case <-ctx.Done():
			k.budget.giveWeights(st.bytes)
			return nil, context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// roomPatience is how long a span waits for memory that another is about to give back.
const roomPatience = 15 * time.Second

// takeWeights reserves the memory of a span. A placement that replaces another may come before the other is closed here.
func (k *keeper) takeWeights(ctx context.Context, st *stage) error {
	end := time.Now().Add(roomPatience)
	for {
		err := k.budget.takeWeights(st.bytes)
		if err == nil || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(retryMin):
		}
	}
}

// open makes one attempt.
func (k *keeper) open(ctx context.Context, st *stage, want []cluster.Blob) (*loadedShard, error) {
	l := &loadedShard{frees: map[string]func(){}, mapped: map[string]bool{}}
	parts := partMap{}
	var mu sync.Mutex
	err := each(ctx, want, func(ctx context.Context, b cluster.Blob) error {
		err := k.blobs.Ensure(ctx, st.model, b)
		var data []byte
		var free func()
		var mapped bool
		if err == nil {
			data, free, mapped, err = k.blobs.Map(ctx, b)
		}
		if err != nil {
			return fmt.Errorf("blob %s: %w", b.Name, err)
		}
		mu.Lock()
		defer mu.Unlock()
		l.frees[b.Name], l.mapped[b.Name] = free, mapped
		parts[b.Name] = data
		return nil
	})
	if err != nil {
		l.free()
		return nil, err
	}
	meta, err := gguf.Parse(parts[cluster.BlobMeta])
	if err == nil {
		l.shard, err = shard.Open(meta, parts, shard.Span{First: st.hop.First, End: st.hop.End}, shard.Options{Workers: k.workers, KVMemory: k.budget.kv})
	}
	if err != nil {
		l.free()
		return nil, &permanentError{err}
	}
	return l, nil
}

// transfers is how many blobs of a span are fetched and read at once: the links and disks of several peers are used
// together, and hashing one blob hides the waiting for another.
const transfers = 4

// each calls f for every item, a few at once; after the first error the rest are cancelled. It returns when all calls have.
func each[T any](ctx context.Context, items []T, f func(context.Context, T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	slots := make(chan struct{}, transfers)
	for _, it := range items {
		slots <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := f(ctx, it); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// partMap is a shard.Source of blobs in memory.
type partMap map[string][]byte

// Part returns the bytes of a part.
func (p partMap) Part(want shard.Part) ([]byte, error) {
	data, ok := p[want.Name]
	if !ok {
		return nil, fmt.Errorf("part %s is not among the blobs of the span", want.Name)
	}
	return data, nil
}

// permanentError is one that the next try would meet again.
type permanentError struct{ error }

// Unwrap returns the cause.
func (e *permanentError) Unwrap() error { return e.error }

func permanent(err error) bool {
	var p *permanentError
	return errors.As(err, &p)
}

// close stops every stage and waits.
func (k *keeper) close() {
	k.mu.Lock()
	k.mu.closed = true
	for _, st := range k.mu.stages {
		st.cancel(errors.New("the node is stopping"))
	}
	k.mu.Unlock()
	k.wg.Wait()
}

func sum(blobs []cluster.Blob) (n int64) {
	for _, b := range blobs {
		n += b.Size
	}
	return n
}
