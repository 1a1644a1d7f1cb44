package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"lamina/cluster"
	"lamina/node/blobs"
)

// peerBlobs brings blobs from this node's store, and into it from the peers.
type peerBlobs struct {
	store  *blobs.Store
	client *http.Client
	self   string
	meter  *meter
	others func() []cluster.NodeID // living nodes first
	out    *slog.Logger
}

var _ blobSource = (*peerBlobs)(nil)

// Ensure implements blobSource. The node that took the upload has every part and is asked first; any other may have it.
func (p *peerBlobs) Ensure(ctx context.Context, m cluster.Model, b cluster.Blob) error {
	d, err := blobs.ParseDigest(b.Digest)
	if err != nil {
		return err
	}
	if _, ok := p.store.Has(d); ok {
		return nil
	}
	var sources []blobs.Source
	add := func(node cluster.NodeID) {
		if node != p.self && node != "" {
			sources = append(sources, blobs.HTTPSource{Client: p.client, Base: "http://" + node, Node: node})
		}
	}
	add(m.Origin)
	for _, node := range p.others() {
		if node != m.Origin {
			add(node)
		}
	}
	begun := time.Now()
	if err := p.store.Fetch(ctx, d, b.Size, sources, nil); err != nil {
		return err
	}
	if b.Size >= probeBytes {
		p.meter.fetched(b.Size, time.Since(begun))
	}
	p.out.Info("blob fetched", "model", m.Name, "part", b.Name, "bytes", b.Size, "seconds", time.Since(begun).Seconds())
	return nil
}

// Map implements blobSource.
func (p *peerBlobs) Map(ctx context.Context, b cluster.Blob) ([]byte, func(), bool, error) {
	return p.bring(ctx, b, p.store.Map)
}

// Distrust implements blobSource.
func (p *peerBlobs) Distrust(b cluster.Blob) {
	if d, err := blobs.ParseDigest(b.Digest); err == nil {
		p.store.Distrust(d)
	}
}

// Load implements blobSource. A blob that has gone bad on disk has been set aside: the next Ensure fetches it again.
func (p *peerBlobs) Load(ctx context.Context, b cluster.Blob) ([]byte, func(), error) {
	data, free, _, err := p.bring(ctx, b, p.store.Load)
	return data, free, err
}

// bring gets a blob in one of the store's ways.
func (p *peerBlobs) bring(ctx context.Context, b cluster.Blob, get func(context.Context, blobs.Digest) (*blobs.Data, error)) ([]byte, func(), bool, error) {
	d, err := blobs.ParseDigest(b.Digest)
	if err != nil {
		return nil, nil, false, err
	}
	data, err := get(ctx, d)
	if err != nil {
		return nil, nil, false, err
	}
	if int64(len(data.Bytes())) != b.Size {
		err := fmt.Errorf("%w: %d bytes, the manifest says %d", blobs.ErrMismatch, len(data.Bytes()), b.Size)
		return nil, nil, false, errors.Join(err, data.Close())
	}
	return data.Bytes(), func() { _ = data.Close() }, data.Mapped(), nil // giving memory back has nothing to report
}
