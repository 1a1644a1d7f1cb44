package ingest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"

	"lamina/shard/tiny"
)

// memory is a Sink that keeps what it gets, and fails at the n-th Put if n is not 0.
type memory struct {
	mu    sync.Mutex
	blobs map[string][]byte
	puts  int
	fail  int
	err   error
	then  func() // runs after each Put
}

func newMemory() *memory { return &memory{blobs: map[string][]byte{}} }

func (m *memory) Has(_ context.Context, digest string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.blobs[digest]
	return ok, nil
}

func (m *memory) Put(_ context.Context, digest string, size int64, r io.Reader) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.puts++; m.puts == m.fail {
		return m.err
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	if int64(len(data)) != size || digest != "sha256:"+hex.EncodeToString(sum[:]) {
		return errors.New("bytes do not match their digest")
	}
	m.blobs[digest] = bytes.Clone(data)
	if m.then != nil {
		m.then()
	}
	return nil
}

func (m *memory) Drop(_ context.Context, digest string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.blobs, digest)
	return nil
}

func file(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSend(t *testing.T) {
	path := file(t, tiny.Llama(tiny.Config{Layers: 3, Seed: 1}))
	sink := newMemory()
	var steps []Progress
	r, err := Send(context.Background(), path, sink, func(p Progress) { steps = append(steps, p) })
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Manifest("m", 3, 2).Validate(); err != nil {
		t.Errorf("the manifest: %v", err)
	}
	var total int64
	for _, b := range r.Model.Blobs {
		if int64(len(sink.blobs[b.Digest])) != b.Size {
			t.Errorf("part %s has not arrived", b.Name)
		}
		total += b.Size
	}
	if len(steps) != 7 || steps[0].Part != "meta" || steps[6].Done != total || steps[6].Total != total || steps[6].Index != 6 || steps[6].Parts != 6 || steps[6].Sent != total {
		t.Errorf("progress: %+v", steps)
	}
	for i := 1; i < len(steps); i++ {
		if steps[i].Done < steps[i-1].Done || steps[i].Done > steps[i].Total {
			t.Errorf("progress runs backwards or over its end: %+v then %+v", steps[i-1], steps[i])
		}
	}

	// Again: nothing is sent twice, and the manifest is the same.
	sink.puts = 0
	again, err := Send(context.Background(), path, sink, nil)
	if err != nil || sink.puts != 0 || again.Model.Digest != r.Model.Digest {
		t.Errorf("%d puts, %v", sink.puts, err)
	}
	again.Undo(context.Background())
	if len(sink.blobs) != 6 {
		t.Error("undo took back what had been there before")
	}
	r.Undo(context.Background())
	if len(sink.blobs) != 0 {
		t.Errorf("undo left %d parts", len(sink.blobs))
	}

	// Without a sink the manifest is found out all the same.
	dry, err := Send(context.Background(), path, nil, nil)
	if err != nil || !reflect.DeepEqual(dry.Model.Blobs, r.Model.Blobs) {
		t.Errorf("without a sink: %v", err)
	}
}

func TestBadFileSendsNothing(t *testing.T) {
	good := tiny.Llama(tiny.Config{Layers: 2, Seed: 1})
	renamed := bytes.Replace(good, []byte("blk.1.attn_q.weight"), []byte("blk.1.attn_x.weight"), 1)
	for name, data := range map[string][]byte{
		"empty": {}, "text": []byte("hello"), "cut short": good[:len(good)-100], "a tensor is missing": renamed,
		"an unknown architecture": bytes.ReplaceAll(good, []byte("llama"), []byte("lxxma")),
	} {
		sink := newMemory()
		if _, err := Send(context.Background(), file(t, data), sink, nil); !errors.Is(err, ErrFile) {
			t.Errorf("%s: %v", name, err)
		}
		if sink.puts != 0 {
			t.Errorf("%s: %d parts were sent", name, sink.puts)
		}
	}
	if _, err := Send(context.Background(), filepath.Join(t.TempDir(), "none.gguf"), newMemory(), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestFailureIsTakenBack(t *testing.T) {
	path := file(t, tiny.Llama(tiny.Config{Layers: 3, Seed: 1}))
	full := errors.New("disk full")
	sink := newMemory()
	sink.fail, sink.err = 4, full
	if _, err := Send(context.Background(), path, sink, nil); !errors.Is(err, full) || errors.Is(err, ErrFile) {
		t.Errorf("%v", err)
	}
	if len(sink.blobs) != 0 {
		t.Errorf("%d parts stay", len(sink.blobs))
	}

	// Interrupted: the parts stay for the next try, which goes on from there.
	ctx, cancel := context.WithCancel(context.Background())
	sink = newMemory()
	sink.then = func() {
		if sink.puts == 2 {
			cancel()
		}
	}
	if _, err := Send(ctx, path, sink, nil); !errors.Is(err, context.Canceled) || len(sink.blobs) < 2 || len(sink.blobs) == 6 {
		t.Errorf("interrupted: %v, %d parts", err, len(sink.blobs))
	}
	if _, err := Send(context.Background(), path, sink, nil); err != nil || sink.puts != 6 {
		t.Errorf("resumed: %v, %d puts", err, sink.puts)
	}
}

func TestEncoderIsRefused(t *testing.T) {
	s := newMemory()
	_, err := Send(t.Context(), filepath.Join("..", "..", "shard", "testdata", "arch", "bert.gguf"), s, nil)
	if !errors.Is(err, ErrEncoder) || len(s.blobs) != 0 {
		t.Errorf("an encoder: %v, %d parts were sent", err, len(s.blobs))
	}
}
