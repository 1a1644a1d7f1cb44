package node

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lamina/cluster"
	"lamina/kernels"
	"lamina/node/blobs"
	"lamina/node/ingest"
	"lamina/shard/pipeline"
	"lamina/shard/tiny"
)

// storeSink puts what ingest sends into a store.
type storeSink struct{ s *blobs.Store }

func (k storeSink) Has(_ context.Context, digest string) (bool, error) {
	d, err := blobs.ParseDigest(digest)
	_, ok := k.s.Has(d)
	return ok, err
}

func (k storeSink) Put(ctx context.Context, digest string, size int64, r io.Reader) error {
	d, err := blobs.ParseDigest(digest)
	if err != nil {
		return err
	}
	return k.s.Put(ctx, d, size, r)
}

func (k storeSink) Drop(context.Context, string) error { return nil }

// loader is a keeper over a store that holds one model, in a folder.
func loader(t testing.TB, path, dir string, threads int) (*keeper, *stage) {
	t.Helper()
	open := func() *blobs.Store {
		s, err := blobs.Open(dir, blobs.Config{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	res, err := ingest.Send(t.Context(), path, storeSink{s}, nil)
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	s = open() // a new process: nothing is verified yet
	w := kernels.NewWorkers(threads)
	t.Cleanup(func() { w.Close(); _ = s.Close() })
	log := slog.New(slog.DiscardHandler)
	k := newKeeper("n1", 1, nil, &peerBlobs{store: s, others: func() []string { return nil }, out: log}, nil, w, newBudget(math.MaxInt64), newMeter(), log)
	m := res.Manifest("m", 0, 0)
	return k, &stage{model: m, hop: cluster.Hop{Node: "n1", First: 0, End: m.Layers}}
}

func (k *keeper) mustOpen(t testing.TB, st *stage) *loadedShard {
	t.Helper()
	l, err := k.open(t.Context(), st, st.model.SpanBlobs(st.hop.First, st.hop.End))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.free)
	return l
}

func tinyFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(path, tiny.Llama(tiny.Config{Layers: 3, Hidden: 128, Seed: 2}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// stepOnce prefills some tokens and returns the logits.
func stepOnce(t testing.TB, s pipeline.Stepper) []float32 {
	t.Helper()
	q, err := s.NewSeq(16, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Free()
	if err := q.Reserve(16); err != nil {
		t.Fatal(err)
	}
	res, err := s.Step([]pipeline.Rows{{Seq: q, Tokens: []int32{1, 2, 3, 4, 5}, Logits: 1}})
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(res[0])
}

// A span serves from its files at once; then it is moved to memory, with the same bits. Without memory it stays.
func TestSpanMovesFromFilesToMemory(t *testing.T) {
	k, st := loader(t, tinyFile(t), t.TempDir(), 2)
	l := k.mustOpen(t, st)
	mapped := func() (n int) {
		for _, is := range l.mapped {
			if is {
				n++
			}
		}
		return n
	}
	if mapped() != 6 {
		t.Skipf("%d parts are mapped: this system reads files to memory", mapped())
	}
	step := pipeline.ForShard(l.shard)
	want := stepOnce(t, step)
	k.spare = func() int64 { return 1000 }
	if err := k.settle(t.Context(), st, l, k.log); err != nil || mapped() != 6 {
		t.Errorf("without memory: %v, %d parts are mapped", err, mapped())
	}
	k.spare = func() int64 { return math.MaxInt64 }
	if err := k.settle(t.Context(), st, l, k.log); err != nil || mapped() != 1 {
		t.Errorf("%v, %d parts are mapped, all but the metadata should not be", err, mapped())
	}
	if got := stepOnce(t, step); !slices.Equal(got, want) {
		t.Error("the bits have changed")
	}
}

// A file that is cut short under a mapping ends the stage, not the process: the keeper is told, and the blob is found out and set
// aside when it is used next.
func TestFileLostUnderAStage(t *testing.T) {
	dir := t.TempDir()
	k, st := loader(t, tinyFile(t), dir, 2)
	l := k.mustOpen(t, st)
	b, _ := st.model.Blob(cluster.LayerBlob(1))
	if !l.mapped[b.Name] {
		t.Skip("this system reads files to memory")
	}
	path := filepath.Join(dir, "sha256", strings.TrimPrefix(b.Digest, "sha256:"))
	if err := errors.Join(os.Chmod(path, 0o600), os.Truncate(path, 4096)); err != nil {
		t.Fatal(err)
	}
	var told error
	s := &stepper{Stepper: pipeline.ForShard(l.shard), info: l.shard.Info(), span: l.shard.Span(), meter: newMeter(), model: st.model.Digest, fault: func(err error) { told = err }}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the step went through")
			}
		}()
		stepOnce(t, s)
	}()
	if told == nil || !strings.Contains(told.Error(), "cut short") {
		t.Errorf("the keeper was told %v", told)
	}
	k.spare = func() int64 { return math.MaxInt64 }
	if err := k.settle(t.Context(), st, l, k.log); !errors.Is(err, blobs.ErrCorrupt) {
		t.Errorf("moving it to memory: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the bad file is still in its place: %v", err)
	}
}
