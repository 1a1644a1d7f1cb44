package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"lamina/cluster"
	"lamina/node/infer"
	"lamina/shard/gguf"
	"lamina/shard/text"
)

// A catalog knows the models of the cluster as a gateway needs them: tokenizer and chat template from the metadata
// blob, read once for each digest.
type catalog struct {
	state func() cluster.State
	// behind says why state may lack what has been agreed on, or nil.
	behind func() error
	blobs  metaSource
	// patience bounds how long a request waits for metadata that must come from a peer.
	patience time.Duration

	mu struct {
		sync.Mutex
		byDigest map[string]*entry
	}
}

// entry is a model's metadata, or the attempt to get it. ready is closed when model or err is set.
type entry struct {
	ready chan struct{}
	model *infer.Model
	err   error
}

var _ infer.Catalog = (*catalog)(nil)

func newCatalog(state func() cluster.State, behind func() error, blobs metaSource) *catalog {
	c := &catalog{state: state, behind: behind, blobs: blobs, patience: 5 * time.Second}
	c.mu.byDigest = map[string]*entry{}
	return c
}

// Model implements infer.Catalog.
func (c *catalog) Model(ctx context.Context, name string) (*infer.Model, error) {
	s := c.state()
	m, ok := s.Model(name)
	if !ok {
		if err := c.behind(); err != nil { // it may well be there
			return nil, fmt.Errorf("%w: %w", infer.ErrModelLoading, err)
		}
		return nil, fmt.Errorf("%w: %.140q; lamina ps lists the models", infer.ErrModelNotFound, name)
	}
	e := c.entry(m)
	select {
	case <-e.ready:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if e.err != nil {
		return nil, e.err
	}
	out := *e.model // the same digest may have several names
	out.ModelInfo = c.info(s, m, e)
	return &out, nil
}

// entry returns the metadata of a model's digest, reading it if nobody does yet. A failure is forgotten, so that the
// next request tries again.
func (c *catalog) entry(m cluster.Model) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.mu.byDigest[m.Digest]; ok {
		return e
	}
	e := &entry{ready: make(chan struct{})}
	c.mu.byDigest[m.Digest] = e
	go func() {
		defer close(e.ready)
		ctx, cancel := context.WithTimeout(context.Background(), c.patience)
		defer cancel()
		e.model, e.err = c.read(ctx, m)
		if e.err != nil {
			c.mu.Lock()
			delete(c.mu.byDigest, m.Digest)
			c.mu.Unlock()
		}
	}()
	return e
}

func (c *catalog) read(ctx context.Context, m cluster.Model) (*infer.Model, error) {
	b, ok := m.Blob(cluster.BlobMeta)
	if !ok {
		return nil, fmt.Errorf("model %s has no metadata", m.Name)
	}
	if err := c.blobs.Ensure(ctx, m, b); err != nil {
		return nil, fmt.Errorf("%w: the metadata of %s is not here yet: %w", infer.ErrModelLoading, m.Name, err)
	}
	data, free, err := c.blobs.Load(ctx, b)
	if err != nil {
		return nil, fmt.Errorf("%w: the metadata of %s cannot be read: %w", infer.ErrModelLoading, m.Name, err)
	}
	defer free()
	f, err := gguf.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("metadata of model %s: %w", m.Name, err)
	}
	return readModel(f)
}

// readModel takes what a gateway needs from a model's metadata, or from the whole file. Nothing of f is kept.
func readModel(f *gguf.File) (*infer.Model, error) {
	tok, err := text.NewTokenizer(f)
	if err != nil {
		return nil, err
	}
	m := &infer.Model{Tokenizer: tok}
	if bos, ok := tok.BOS(); ok {
		m.BOSText = string(tok.Piece(bos))
	}
	if eog := tok.EOG(); len(eog) > 0 {
		m.EOSText = string(tok.Piece(eog[0]))
	}
	if src, ok := text.ModelTemplate(f); ok {
		// A template that cannot be read leaves a model that completes but does not chat.
		if m.Template, err = text.NewTemplate(src); err != nil {
			m.TemplateErr = err
		}
	}
	return m, nil
}

// Models implements infer.Catalog.
func (c *catalog) Models(ctx context.Context) ([]infer.ModelInfo, error) {
	s := c.state()
	out := make([]infer.ModelInfo, 0, len(s.Models))
	for _, m := range s.Models {
		out = append(out, c.info(s, m, c.known(m.Digest)))
	}
	return out, nil
}

// known is the entry of a digest if it has been read.
func (c *catalog) known(digest string) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.mu.byDigest[digest]
	if e == nil {
		return nil
	}
	select {
	case <-e.ready:
		return e
	default:
		return nil
	}
}

func (c *catalog) info(s cluster.State, m cluster.Model, e *entry) infer.ModelInfo {
	info := infer.ModelInfo{Name: m.Name, Digest: m.Digest, Arch: m.Arch, Layers: m.Layers, Context: m.Context, Vocab: m.Vocab, Created: m.Created}
	for _, p := range s.PlacementsOf(m.Digest) {
		info.Ready = info.Ready || p.Phase == cluster.Ready
	}
	if e != nil && e.model != nil {
		info.Chat = e.model.Template != nil
	}
	return info
}

// follow reads the metadata of every model, so that the first request does not wait for it, and forgets that of models
// that are gone.
func (c *catalog) follow(s cluster.State) {
	for _, m := range s.Models {
		c.entry(m)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for digest, e := range c.mu.byDigest {
		if _, known := s.ModelByDigest(digest); known {
			continue
		}
		select {
		case <-e.ready:
			delete(c.mu.byDigest, digest)
		default: // wait needs it until it is read; the next state will find it again
		}
	}
}

// wait returns when nothing is being read.
func (c *catalog) wait() {
	c.mu.Lock()
	var open []*entry
	for _, e := range c.mu.byDigest {
		open = append(open, e)
	}
	c.mu.Unlock()
	for _, e := range open {
		<-e.ready
	}
}
