package blobs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func noPace(context.Context, int) error { return nil }

// What has rotted is found and set aside, though this process has checked it when it came; the rest stays.
func TestScrub(t *testing.T) {
	s, dir := newStore(t)
	good, rotten, short := content(3*copySize+5, 1), content(copySize*2, 2), content(1000, 3)
	g, r, c := mustPut(t, s, good), mustPut(t, s, rotten), mustPut(t, s, short)
	if n, err := s.Scrub(t.Context(), noPace, func(d Digest, err error) { t.Errorf("%v: %v", d, err) }); err != nil || n != s.Total() || n != int64(len(good)+len(rotten)+len(short)) {
		t.Fatalf("all good: %d %v", n, err)
	}
	change := func(d Digest, f func(b []byte) []byte) {
		path := filepath.Join(dir, dirWhole, d.hex())
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f(b), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, st.ModTime(), st.ModTime()); err != nil { // as rot does it: nobody wrote
			t.Fatal(err)
		}
	}
	change(r, func(b []byte) []byte { b[copySize+7] ^= 4; return b })
	change(c, func(b []byte) []byte { return b[:999] })
	var bad []Digest
	if _, err := s.Scrub(t.Context(), noPace, func(d Digest, err error) {
		bad = append(bad, d)
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%v: %v", d, err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if len(bad) != 2 || !slices.Contains(bad, r) || !slices.Contains(bad, c) {
		t.Errorf("found %v, want %v and %v", bad, r, c)
	}
	for d, want := range map[Digest]bool{g: true, r: false, c: false} {
		if _, ok := s.Has(d); ok != want {
			t.Errorf("%v is here: %v", d, ok)
		}
	}
	if _, err := s.Load(t.Context(), r); !errors.Is(err, ErrNotFound) {
		t.Errorf("the rotten one is loaded: %v", err)
	}
	if mustPut(t, s, rotten) != r {
		t.Error("it cannot be stored again")
	}
	if data, err := s.Load(t.Context(), r); err != nil || !slices.Equal(data.Bytes(), rotten) {
		t.Errorf("stored again: %v", err)
	}
}

func TestScrubEnds(t *testing.T) {
	s, _ := newStore(t)
	mustPut(t, s, content(5*copySize, 1))
	stop := errors.New("stop")
	pieces := 0
	n, err := s.Scrub(t.Context(), func(context.Context, int) error {
		if pieces++; pieces == 3 {
			return stop
		}
		return nil
	}, func(Digest, error) { t.Error("it is good") })
	if !errors.Is(err, stop) || n != 3*copySize {
		t.Errorf("%d bytes, %v", n, err)
	}
}
