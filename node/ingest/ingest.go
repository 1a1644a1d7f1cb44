// Package ingest turns a model file into the parts that a cluster stores: it cuts, hashes and sends them, a few at a time,
// so that memory stays bounded by four parts and a gibibyte, or the largest part. The file is checked as a whole before anything is sent, parts that the
// other side has are not sent again, and what was sent can be taken back if the model is not taken in the end.
package ingest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"time"

	"lamina/cluster"
	"lamina/kernels"
	"lamina/shard"
	"lamina/shard/gguf"
	"lamina/shard/text"
)

// Sink takes the parts, several at once. api.Client is one.
type Sink interface {
	Has(ctx context.Context, digest string) (bool, error)
	// Put takes size bytes; r is good only during the call.
	Put(ctx context.Context, digest string, size int64, r io.Reader) error
	// Drop takes a part back.
	Drop(ctx context.Context, digest string) error
}

// CheckName says whether the cluster takes a name for a model, before anything is cut or sent.
func CheckName(name string) error { return cluster.CheckModelName(name) }

// Progress is how far a file has got. Total is an estimate until the end, when Done equals it.
type Progress struct {
	Part        string // that was begun last: "meta", "embed", "layer.7", "head"
	Index       int    // parts that are done
	Parts       int
	Done, Total int64 // bytes of the parts, sent or found there
	Sent        int64 // of Done, those that were sent
}

// ErrFile: the file cannot be used as a model; nothing of it was sent, or it was taken back.
var ErrFile = errors.New("model file")

// ErrEncoder: the file is an embedding model. The shard computes those, but no route of the API asks for embeddings yet.
var ErrEncoder = errors.New("it is an embedding model; this version serves models that generate text only")

// undoTime bounds how long taking parts back may last.
const undoTime = 10 * time.Second

// Result is a file that was cut and sent.
type Result struct {
	// Model is the manifest, without a name; its digest does not cover the name.
	Model cluster.Model
	sink  Sink
	sent  []string
}

// Manifest is the model under a name, with the wishes of who adds it: how many nodes to cut it over and how many times to
// hold it, 0 where the cluster decides.
func (r *Result) Manifest(name string, stages, replicas int) cluster.Model {
	m := r.Model
	m.Name, m.Stages, m.Replicas = name, stages, replicas
	return m
}

// Undo takes back what was sent and was not there before, for a model that is not taken in the end. It does its best.
func (r *Result) Undo(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	for _, digest := range r.sent {
		_ = r.sink.Drop(ctx, digest) // what stays is cleared by the node some time
	}
	r.sent = nil
}

// Send cuts the file and sends what the sink does not have; with a nil sink it only finds out the manifest. progress,
// which may be nil, is called at the beginning of each part and at the end, never twice at once. If sending fails, what was sent is taken back, unless ctx
// was cancelled: then the parts wait for the next try.
func Send(ctx context.Context, path string, sink Sink, progress func(Progress)) (*Result, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	defer f.Close()
	info, err := check(f)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrFile, path, err)
	}
	cutter, err := shard.NewCutter(f)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrFile, path, err)
	}
	s := &sender{cutter: cutter, parts: cutter.Parts(), res: &Result{sink: sink, Model: Describe(info)}, tell: progress}
	s.res.Model.Blobs = make([]cluster.Blob, len(s.parts))
	s.mu.at = Progress{Parts: len(s.parts), Total: estimate(path, f)}
	if err := s.all(ctx); err != nil {
		if ctx.Err() == nil {
			s.res.Undo(ctx)
		}
		return nil, fmt.Errorf("%s, %w", path, err)
	}
	s.finish()
	s.res.Model.Digest = s.res.Model.ManifestDigest()
	return s.res, nil
}

// check finds out what the cluster would refuse later, and what it could serve only half.
func check(f *gguf.File) (shard.Info, error) {
	info, err := shard.ReadInfo(f)
	if err != nil {
		return info, err
	}
	if info.Encoder {
		return info, ErrEncoder
	}
	err = gguf.Guard(func() error {
		_, err := text.NewTokenizer(f)
		return err
	})
	return info, err
}

// Describe is the manifest of a model but for its name and blobs.
func Describe(info shard.Info) cluster.Model {
	const page = 64 // positions of a page of the KV cache
	return cluster.Model{
		Arch: info.Arch, Layers: info.Layers, Hidden: info.Hidden, Vocab: info.Vocab, Context: info.Context, Tied: info.Tied,
		KVBytes: info.KVBytes(shard.Span{First: 0, End: 1}, page) / page,
	}
}

// estimate is about how many bytes the parts will have: what is no tensor, and the packed weights. Tensors that Cut would
// refuse do not matter.
func estimate(path string, f *gguf.File) (total int64) {
	if st, err := os.Stat(path); err == nil {
		total = st.Size()
	}
	for _, t := range f.Tensors {
		total -= int64(len(t.Data))
		if len(t.Dims) == 0 {
			continue
		}
		n := int64(4 * t.Dims[0])
		if len(t.Dims) > 1 {
			packed, err := kernels.PackedSize(t.Type, t.Rows(), t.Dims[0])
			if err != nil {
				continue
			}
			n = packed
		}
		total += n
	}
	return total
}

// sender is the state of one Send. Several goroutines pack, hash and send a part each, so that packing one, hashing another
// and waiting for the node's disk go on at once.
type sender struct {
	cutter *shard.Cutter
	parts  []shard.Part
	tell   func(Progress)
	res    *Result // its blobs by index, each written by the goroutine that has the part

	mu struct {
		sync.Mutex // also held while tell runs
		at         Progress
		next       int
	}
}

// At most so many parts are on their way at once, and so many bytes of them unless one alone has more.
const (
	maxParts = 4
	maxBytes = 1 << 30
)

// all brings every part on its way and waits. After the first error no more are begun.
func (s *sender) all(ctx context.Context) error {
	n, err := s.atOnce()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			var buf []byte
			for i := s.take(); i < len(s.parts) && ctx.Err() == nil; i = s.take() {
				var err error
				if buf, err = s.part(ctx, i, buf); err != nil {
					cancel(fmt.Errorf("part %s: %w", s.parts[i].Name, err))
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// atOnce is how many parts are worked on at once: the processors' number, within the bounds.
func (s *sender) atOnce() (int, error) {
	largest := int64(1)
	for i := range s.parts {
		n, err := s.cutter.Size(i)
		if err != nil {
			return 0, fmt.Errorf("%w: %w", ErrFile, err)
		}
		largest = max(largest, n)
	}
	return int(max(1, min(int64(runtime.GOMAXPROCS(0)), maxParts, maxBytes/largest, int64(len(s.parts))))), nil
}

// take returns the next part that nobody has, and tells of it.
func (s *sender) take() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.mu.next
	if s.mu.next++; i < len(s.parts) {
		s.mu.at.Part = s.parts[i].Name
		s.report()
	}
	return i
}

// part packs, hashes and sends part i, in buf's memory, which it returns.
func (s *sender) part(ctx context.Context, i int, buf []byte) ([]byte, error) {
	data, err := s.cutter.Encode(i, buf)
	if err != nil {
		return buf, fmt.Errorf("%w: %w", ErrFile, err)
	}
	sum := sha256.Sum256(data)
	b := cluster.Blob{Name: s.parts[i].Name, Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: int64(len(data))}
	s.res.Model.Blobs[i] = b
	if err := context.Cause(ctx); err != nil {
		return data, err
	}
	sent, err := s.send(ctx, b, data)
	if err != nil {
		return data, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.at.Done += b.Size
	s.mu.at.Index++
	s.mu.at.Total = max(s.mu.at.Total, s.mu.at.Done)
	if sent {
		s.mu.at.Sent += b.Size
	}
	return data, nil
}

// send puts a part where it is not yet, and says whether it did. Equal parts at the same time may both be sent; the sink keeps one.
func (s *sender) send(ctx context.Context, b cluster.Blob, data []byte) (bool, error) {
	if s.res.sink == nil {
		return false, nil
	}
	has, err := s.res.sink.Has(ctx, b.Digest)
	if err != nil || has {
		return false, err
	}
	if err := s.res.sink.Put(ctx, b.Digest, b.Size, bytes.NewReader(data)); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.res.sent = append(s.res.sent, b.Digest)
	return true, nil
}

// finish tells that all is done.
func (s *sender) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.at.Total, s.mu.at.Index = s.mu.at.Done, s.mu.at.Parts
	s.report()
}

// report is called with the lock held.
func (s *sender) report() {
	if s.tell != nil {
		s.tell(s.mu.at)
	}
}
