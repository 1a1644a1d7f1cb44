package node

import (
	"context"
	"errors"
	"testing"

	"lamina/cluster"
	"lamina/node/infer"
	"lamina/shard/tiny"
)

// oneBlob is a source of one part: the metadata.
type oneBlob []byte

func (oneBlob) Ensure(context.Context, cluster.Model, cluster.Blob) error { return nil }
func (b oneBlob) Load(context.Context, cluster.Blob) ([]byte, func(), error) {
	return b, func() {}, nil
}

// The catalog keeps metadata for as long as a model of that content is there, no longer.
func TestCatalogForgets(t *testing.T) {
	m := cluster.Model{Name: "m", Digest: "sha256:1", Blobs: []cluster.Blob{{Name: cluster.BlobMeta}}}
	state := cluster.State{Models: []cluster.Model{m}}
	var behind error
	c := newCatalog(func() cluster.State { return state }, func() error { return behind }, oneBlob(tiny.Llama(tiny.Config{})))
	c.follow(state)
	c.wait()
	if _, err := c.Model(t.Context(), "m"); err != nil {
		t.Fatal(err)
	}
	state = cluster.State{}
	c.follow(state)
	if n := len(c.mu.byDigest); n != 0 {
		t.Errorf("%d models are kept after their removal", n)
	}
	if _, err := c.Model(t.Context(), "m"); !errors.Is(err, infer.ErrModelNotFound) {
		t.Errorf("a model that is gone: %v", err)
	}
	behind = errors.New("just started")
	if _, err := c.Model(t.Context(), "m"); !errors.Is(err, infer.ErrModelLoading) {
		t.Errorf("a model that a node which is behind does not know: %v", err)
	}
}
