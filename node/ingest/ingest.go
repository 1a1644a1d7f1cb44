// Package ingest turns a model file into the parts that a cluster stores: it cuts, hashes and sends them, one at a time,
// so that memory stays bounded by the largest part. The file is checked as a whole before anything is sent, parts that the
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
	"time"

	"lamina/cluster"
	"lamina/kernels"
	"lamina/shard"
	"lamina/shard/gguf"
	"lamina/shard/text"
)

// Sink takes the parts. api.Client is one.
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
	Part        string // "meta", "embed", "layer.7", "head"
	Index       int    // of the part, from 0
	Parts       int
	Done, Total int64 // bytes of the parts, sent or found there
	Sent        int64 // of Done, those that were sent
}

// ErrFile: the file cannot be used as a model; nothing of it was sent.
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
// which may be nil, is called before each part and at the end. If sending fails, what was sent is taken back, unless ctx
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
	s := &sender{res: &Result{sink: sink, Model: Describe(info)}, tell: progress}
	s.at = Progress{Parts: len(shard.PartsOf(info, shard.Span{First: 0, End: info.Layers}, info.Tied)), Total: estimate(path, f)}
	if err := shard.Cut(f, func(p shard.Part, data []byte) error { return s.part(ctx, p, data) }); err != nil {
		if ctx.Err() == nil {
			s.res.Undo(ctx)
		}
		if s.began {
			return nil, fmt.Errorf("%s, part %s: %w", path, s.at.Part, err)
		}
		return nil, fmt.Errorf("%w: %s: %w", ErrFile, path, err)
	}
	s.at.Total, s.at.Index = s.at.Done, s.at.Parts
	s.report()
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

// sender is the state of one Send.
type sender struct {
	res   *Result
	tell  func(Progress)
	at    Progress
	began bool
}

// part takes one part from Cut.
func (s *sender) part(ctx context.Context, p shard.Part, data []byte) error {
	s.began = true
	s.at.Part = p.Name
	s.at.Total = max(s.at.Total, s.at.Done+int64(len(data)))
	s.report()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	b := cluster.Blob{Name: p.Name, Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: int64(len(data))}
	s.res.Model.Blobs = append(s.res.Model.Blobs, b)
	if err := s.send(ctx, b, data); err != nil {
		return err
	}
	s.at.Done += b.Size
	s.at.Index++
	return nil
}

// send puts a part where it is not yet.
func (s *sender) send(ctx context.Context, b cluster.Blob, data []byte) error {
	if s.res.sink == nil {
		return nil
	}
	has, err := s.res.sink.Has(ctx, b.Digest)
	if err != nil || has {
		return err
	}
	if err := s.res.sink.Put(ctx, b.Digest, b.Size, bytes.NewReader(data)); err != nil {
		return err
	}
	s.at.Sent += b.Size
	s.res.sent = append(s.res.sent, b.Digest)
	return nil
}

func (s *sender) report() {
	if s.tell != nil {
		s.tell(s.at)
	}
}
