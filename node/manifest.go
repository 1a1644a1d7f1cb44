package node

import (
	"context"
	"fmt"

	"lamina/cluster"
	"lamina/node/blobs"
	"lamina/node/ingest"
	"lamina/shard"
	"lamina/shard/gguf"
)

// checkModel looks into the blobs of a manifest, all of which are here: they must be the parts of one model, and the
// numbers that the planner counts with those of its metadata. So a manifest that lies is refused before anything is agreed
// on, and not found out by the nodes that load it. Errors wrap cluster.ErrInvalid.
func (a admin) checkModel(ctx context.Context, m cluster.Model) error {
	parts := mappedParts{}
	defer parts.close()
	if err := a.mapParts(ctx, m, parts, cluster.BlobMeta); err != nil {
		return err
	}
	return gguf.Guard(func() error {
		meta, err := gguf.Parse(parts[cluster.BlobMeta].Bytes())
		if err != nil {
			return lie(m, "the part meta is no metadata: %w", err)
		}
		info, err := shard.ReadInfo(meta)
		if err != nil {
			return lie(m, "%w", err)
		}
		if err := compare(m, info); err != nil {
			return err
		}
		r, err := readModel(meta)
		if err != nil {
			return lie(m, "%w", err)
		}
		if n := r.Tokenizer.Vocab(); n > info.Vocab {
			return lie(m, "its tokenizer has %d tokens, its embedding %d", n, info.Vocab)
		}
		for i := range m.Layers {
			if err := a.checkSpan(ctx, m, meta, shard.Span{First: i, End: i + 1}); err != nil {
				return err
			}
		}
		return nil
	})
}

// compare holds the manifest's numbers against the metadata.
func compare(m cluster.Model, info shard.Info) error {
	want := ingest.Describe(info)
	if m.Arch != want.Arch || m.Tied != want.Tied {
		return lie(m, "architecture and tied are %s and %v, its metadata says %s and %v", m.Arch, m.Tied, want.Arch, want.Tied)
	}
	for _, f := range []struct {
		name      string
		got, want int64
	}{
		{"layers", int64(m.Layers), int64(want.Layers)}, {"hidden", int64(m.Hidden), int64(want.Hidden)}, {"vocab", int64(m.Vocab), int64(want.Vocab)},
		{"context", int64(m.Context), int64(want.Context)}, {"kv_bytes", m.KVBytes, want.KVBytes},
	} {
		if f.got != f.want {
			return lie(m, "%s is %d, its metadata says %d", f.name, f.got, f.want)
		}
	}
	return nil
}

// checkSpan opens a span as a node that is to hold it would, from mapped blobs, so that nothing is held.
func (a admin) checkSpan(ctx context.Context, m cluster.Model, meta *gguf.File, span shard.Span) error {
	parts := mappedParts{}
	defer parts.close()
	for _, b := range m.SpanBlobs(span.First, span.End) {
		if b.Name != cluster.BlobMeta {
			if err := a.mapParts(ctx, m, parts, b.Name); err != nil {
				return err
			}
		}
	}
	s, err := shard.Open(meta, parts, span, shard.Options{Workers: a.n.workers})
	if err != nil {
		return lie(m, "%w", err)
	}
	return s.Close()
}

// mapParts adds one part of the model.
func (a admin) mapParts(ctx context.Context, m cluster.Model, parts mappedParts, name string) error {
	b, _ := m.Blob(name) // Validate has seen that it is there
	d, err := blobs.ParseDigest(b.Digest)
	if err != nil {
		return lie(m, "part %s: %w", name, err)
	}
	data, err := a.n.store.Map(ctx, d)
	if err != nil {
		return err
	}
	parts[name] = data
	if n := int64(len(data.Bytes())); n != b.Size {
		return lie(m, "part %s has %d bytes, the manifest says %d", name, n, b.Size)
	}
	return nil
}

func lie(m cluster.Model, format string, args ...any) error {
	return fmt.Errorf("%w: model %q: %w", cluster.ErrInvalid, m.Name, fmt.Errorf(format, args...))
}

// mappedParts is a shard.Source of mapped blobs.
type mappedParts map[string]*blobs.Data

// Part implements shard.Source.
func (p mappedParts) Part(want shard.Part) ([]byte, error) {
	if d := p[want.Name]; d != nil {
		return d.Bytes(), nil
	}
	return nil, fmt.Errorf("the manifest does not count it as a part of this span")
}

func (p mappedParts) close() {
	for _, d := range p {
		_ = d.Close() // gives a mapping back
	}
}
