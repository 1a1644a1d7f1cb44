package node

import (
	"context"
	"errors"
	"time"

	"lamina/node/blobs"
)

// A pass over all blobs takes about a day, so that it costs next to nothing (100 GB: 1.2 MB/s); small stores are read a little faster, and
// the first pass begins when the start is over.
const (
	scrubDelay = 10 * time.Minute
	scrubPass  = 24 * time.Hour
	scrubRest  = time.Hour // between two passes
	scrubLeast = 256 << 10 // bytes a second
)

// scrub checks this node's disk, pass after pass, until the node closes.
func (n *Node) scrub() {
	for wait := scrubDelay; ; wait = scrubRest {
		if pause(n.run, wait) != nil {
			return
		}
		rate := max(scrubLeast, n.store.Total()/int64(scrubPass/time.Second))
		_, err := n.store.Scrub(n.run, func(ctx context.Context, size int) error {
			return pause(ctx, time.Duration(size)*time.Second/time.Duration(rate))
		}, n.rotten)
		if err != nil && n.run.Err() == nil {
			n.out.Warn("the check of the blobs on disk has ended early", "err", err)
		}
	}
}

// rotten has a bad blob fetched again, if a model still needs it here or this node keeps it for another.
func (n *Node) rotten(d blobs.Digest, why error) {
	s := n.log.State()
	for _, m := range s.Models {
		for _, b := range m.Blobs {
			if b.Digest != d.String() {
				continue
			}
			ctx, cancel := context.WithTimeout(n.run, 10*time.Minute)
			err := n.source.Ensure(ctx, m, b)
			cancel()
			switch {
			case err == nil:
				n.out.Warn("a blob had gone bad on disk and was fetched again", "model", m.Name, "part", b.Name, "err", why)
			case !errors.Is(err, context.Canceled):
				n.out.Error("a blob has gone bad on disk, and no other node gives it now", "model", m.Name, "part", b.Name, "err", err)
			}
			return
		}
	}
}

// pause waits, or returns the context's error when it is done first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
