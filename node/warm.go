package node

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"lamina/node/blobs"
)

// warmFile lists the blobs of the spans that this node served last, a digest a line. A process that starts verifies them while it
// waits for the cluster to know it, so that they are ready when it is told what to load. It is only a hint: what it says
// is not believed, and without it a start takes longer.
const warmFile = "warm"

// maxWarm bounds what is read of the hint.
const maxWarm = 1 << 20

// remember writes the hint; what cannot be written is done without.
func remember(dir string, digests []string) error {
	slices.Sort(digests)
	name := filepath.Join(dir, warmFile)
	if err := os.WriteFile(name+".new", []byte(strings.Join(slices.Compact(digests), "\n")+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// warmUp verifies the blobs of the hint that are here, several at once, until ctx ends.
func warmUp(ctx context.Context, dir string, store *blobs.Store) {
	b, err := os.ReadFile(filepath.Join(dir, warmFile))
	if err != nil || len(b) > maxWarm {
		return
	}
	digests := make(chan blobs.Digest)
	done := make(chan struct{})
	workers := min(transfers, runtime.NumCPU())
	for range workers {
		go func() {
			defer func() { done <- struct{}{} }()
			for d := range digests {
				if data, err := store.Map(ctx, d); err == nil { // else whoever needs it will see
					_ = data.Close() // gives the mapping back; that it was verified stays known
				}
			}
		}()
	}
	for line := range strings.Lines(string(b)) {
		if d, err := blobs.ParseDigest(strings.TrimSpace(line)); err == nil && ctx.Err() == nil {
			digests <- d
		}
	}
	close(digests)
	for range workers {
		<-done
	}
}
