package blobs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"
)

func newStore(t testing.TB) (*Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "blobs")
	s, err := Open(dir, Config{Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, dir
}

// content is n bytes that look like nothing else.
func content(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func mustPut(t testing.TB, s *Store, b []byte) Digest {
	t.Helper()
	d := Sum(b)
	if err := s.Put(context.Background(), d, int64(len(b)), bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	return d
}

// files lists all files under dir.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.Walk(dir, func(p string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			rel, _ := filepath.Rel(dir, p)
			out = append(out, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestParseDigest(t *testing.T) {
	d := Sum([]byte("abc"))
	back, err := ParseDigest(d.String())
	if err != nil || back != d || d.String() != "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Errorf("%v, %v", back, err)
	}
	for _, bad := range []string{
		"", "sha256:", d.hex(), "sha1:" + d.hex(), "sha256:" + strings.ToUpper(d.hex()), d.String() + "0", d.String()[:70],
		"sha256:" + strings.Repeat("g", 64), "sha256:../../../../etc/passwd", "sha256:" + strings.Repeat("../", 21) + "a",
		"sha256-" + d.hex(), " " + d.String(), d.String() + "\n", "sha256:" + strings.Repeat("\x00", 64),
	} {
		if _, err := ParseDigest(bad); !errors.Is(err, ErrDigest) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestPutLoadMap(t *testing.T) {
	s, dir := newStore(t)
	for _, n := range []int{0, 1, 4095, 4096, copySize, copySize + 1, 2<<20 + 77, 5<<20 + 1} {
		b := content(n, uint64(n))
		d := Sum(b)
		if _, ok := s.Has(d); ok {
			t.Error("has what was never put")
		}
		if err := s.Put(t.Context(), d, int64(n), iotest.OneByteReader(io.LimitReader(bytes.NewReader(b), 10))); n > 10 && !errors.Is(err, ErrMismatch) {
			t.Errorf("%d: a short reader: %v", n, err)
		}
		mustPut(t, s, b)
		mustPut(t, s, b)
		if size, ok := s.Has(d); !ok || size != int64(n) {
			t.Errorf("%d: has %d, %v", n, size, ok)
		}
		for name, open := range map[string]func(context.Context, Digest) (*Data, error){"load": s.Load, "map": s.Map} {
			data, err := open(t.Context(), d)
			if err != nil {
				t.Fatalf("%s %d: %v", name, n, err)
			}
			if !bytes.Equal(data.Bytes(), b) {
				t.Errorf("%s %d: other bytes", name, n)
			}
			if err := errors.Join(data.Close(), data.Close()); err != nil || data.Bytes() != nil {
				t.Error(err)
			}
		}
		st, err := os.Stat(filepath.Join(dir, dirWhole, d.hex()))
		if err != nil || st.Mode().Perm() != 0o400 {
			t.Errorf("%v, %v", st.Mode(), err)
		}
	}
	if _, err := s.Load(t.Context(), Sum([]byte("x"))); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, err := s.Map(t.Context(), Sum([]byte("x"))); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	for _, f := range files(t, dir) {
		if !strings.HasPrefix(f, dirWhole) {
			t.Errorf("left over: %s", f)
		}
	}
}

func TestPutRefuses(t *testing.T) {
	b := content(100000, 1)
	d := Sum(b)
	bad := bytes.Clone(b)
	bad[99999] ^= 1
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		size int64
		r    io.Reader
		want error
	}{
		"one bit":       {100000, bytes.NewReader(bad), ErrMismatch},
		"too short":     {100000, bytes.NewReader(b[:99999]), ErrMismatch},
		"too long":      {99999, bytes.NewReader(b), ErrMismatch},
		"endless":       {100000, endless{}, ErrMismatch},
		"empty":         {100000, strings.NewReader(""), ErrMismatch},
		"wrong size":    {5, bytes.NewReader(b[:5]), ErrMismatch},
		"negative size": {-1, bytes.NewReader(b), ErrMismatch},
		"read error":    {100000, io.MultiReader(bytes.NewReader(b[:500]), iotest.ErrReader(broken)), broken},
	} {
		s, dir := newStore(t)
		if err := s.Put(t.Context(), d, c.size, c.r); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if left := files(t, dir); len(left) != 0 {
			t.Errorf("%s left %v", name, left)
		}
	}
	s, dir := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Put(ctx, d, 100000, bytes.NewReader(b)); !errors.Is(err, context.Canceled) || len(files(t, dir)) != 0 {
		t.Errorf("cancelled: %v", err)
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// brokenWriter takes some bytes, then behaves as the disk does that has an error.
type brokenWriter struct {
	f    *os.File
	left int
	err  error // nil: a short write without an error
}

func (w *brokenWriter) Write(b []byte) (int, error) {
	n := min(len(b), w.left)
	k, err := w.f.Write(b[:n])
	w.left -= k
	if err == nil && n < len(b) {
		err = w.err
	}
	return k, err
}

func TestBrokenDisk(t *testing.T) {
	b := content(3*copySize, 1)
	d := Sum(b)
	for _, c := range []struct {
		name      string
		err, want error
	}{
		{"full", syscall.ENOSPC, ErrDiskFull},
		{"quota", syscall.EDQUOT, ErrDiskFull},
		{"short write", nil, io.ErrShortWrite},
		{"I/O error", syscall.EIO, syscall.EIO},
	} {
		s, dir := newStore(t)
		s.writer = func(f *os.File) io.Writer { return &brokenWriter{f, copySize + 100, c.err} }
		if err := s.Put(t.Context(), d, int64(len(b)), bytes.NewReader(b)); !errors.Is(err, c.want) {
			t.Errorf("put, %s: %v", c.name, err)
		}
		if left := files(t, dir); len(left) != 0 {
			t.Errorf("put, %s: left %v", c.name, left)
		}
		asked := 0
		src := source{name: "a", open: func(from int64) (io.ReadCloser, int64, error) {
			asked++
			return io.NopCloser(bytes.NewReader(b[from:])), int64(len(b)), nil
		}}
		if err := s.Fetch(t.Context(), d, int64(len(b)), []Source{src, src}, nil); !errors.Is(err, c.want) || asked != 1 {
			t.Errorf("fetch, %s: %v; the sources were asked %d times for our own fault", c.name, err, asked)
		}
		if left := files(t, dir); c.want == ErrDiskFull && len(left) != 0 {
			t.Errorf("fetch, %s: left %v", c.name, left)
		}
		s.writer = func(f *os.File) io.Writer { return f }
		if err := s.Fetch(t.Context(), d, int64(len(b)), []Source{src}, nil); err != nil {
			t.Errorf("fetch after %s: %v", c.name, err)
		}
	}
}

func TestNoRoom(t *testing.T) {
	s, dir := newStore(t)
	s.free = func(*os.Root) (int64, bool) { return 1000, true }
	b := content(1000, 1)
	never := source{name: "a", open: func(int64) (io.ReadCloser, int64, error) { t.Error("asked"); return nil, 0, ErrNotFound }}
	for _, err := range []error{
		s.Put(t.Context(), Sum(b), 1000, iotest.ErrReader(errors.New("read"))),
		s.Fetch(t.Context(), Sum(b), 1000, []Source{never}, nil),
	} {
		if !errors.Is(err, ErrDiskFull) || !strings.Contains(err.Error(), "1000 are free") {
			t.Errorf("got %v", err)
		}
	}
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("left %v", left)
	}
	if free, ok := freeSpace(s.root); canMap && (!ok || free <= 0) {
		t.Errorf("free space %d, %v", free, ok)
	}
}

func TestConcurrentPut(t *testing.T) {
	s, dir := newStore(t)
	b := content(300000, 1)
	d := Sum(b)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			var r io.Reader = bytes.NewReader(b)
			if i == 0 {
				r = io.MultiReader(bytes.NewReader(b[:1000]), iotest.ErrReader(errors.New("gone"))) // one client gives up
			}
			if err := s.Put(context.Background(), d, int64(len(b)), r); err != nil && i != 0 {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if left := files(t, dir); len(left) != 1 {
		t.Errorf("files %v", left)
	}
}

func TestCorruptOnDisk(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"a bit": func(p string) error {
			b, err := os.ReadFile(p)
			b[len(b)/2] ^= 4
			return errors.Join(err, os.WriteFile(p, b, 0o600))
		},
		"cut short": func(p string) error { return os.Truncate(p, 12345) },
		"emptied":   func(p string) error { return os.Truncate(p, 0) },
		"longer":    func(p string) error { return os.Truncate(p, 1<<20) },
	} {
		for how, open := range map[string]func(*Store, context.Context, Digest) (*Data, error){"load": (*Store).Load, "map": (*Store).Map} {
			s, dir := newStore(t)
			b := content(700000, 1)
			d := mustPut(t, s, b)
			path := filepath.Join(dir, dirWhole, d.hex())
			if err := errors.Join(os.Chmod(path, 0o600), spoil(path), s.Close()); err != nil {
				t.Fatal(err)
			}
			s, err := Open(dir, Config{}) // a new process: it has seen nothing of this blob
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if _, err := open(s, t.Context(), d); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s, %s: %v", how, name, err)
			}
			if _, ok := s.Has(d); ok {
				t.Errorf("%s, %s: still there", how, name)
			}
			if left := files(t, dir); len(left) != 1 || left[0] != dirBad+"/"+d.hex() {
				t.Errorf("%s, %s: %v", how, name, left)
			}
			mustPut(t, s, b) // as a fetch would
			if data, err := open(s, t.Context(), d); err != nil || !bytes.Equal(data.Bytes(), b) {
				t.Errorf("%s, %s, fetched again: %v", how, name, err)
			}
		}
	}
}

func TestLoadCancelled(t *testing.T) {
	s, _ := newStore(t)
	d := mustPut(t, s, content(700000, 1))
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("why")
	cancel(why)
	if _, err := s.Load(ctx, d); !errors.Is(err, why) {
		t.Error(err)
	}
	if _, err := s.Map(ctx, d); !errors.Is(err, why) {
		t.Error(err)
	}
	if _, ok := s.Has(d); !ok {
		t.Error("a cancelled load set the blob aside")
	}
}

func TestDataOutlivesTheFile(t *testing.T) {
	s, _ := newStore(t)
	b := content(3<<20, 1)
	d := mustPut(t, s, b)
	loaded, err := s.Load(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	mapped, err := s.Map(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	n, size, err := s.GC(func(Digest) bool { return false }, -time.Hour)
	if err != nil || n != 1 || size != int64(len(b)) {
		t.Errorf("%d, %d, %v", n, size, err)
	}
	if !bytes.Equal(loaded.Bytes(), b) || !bytes.Equal(mapped.Bytes(), b) {
		t.Error("changed")
	}
	if err := errors.Join(loaded.Close(), mapped.Close()); err != nil {
		t.Error(err)
	}
}

func TestGC(t *testing.T) {
	s, dir := newStore(t)
	keep, drop := mustPut(t, s, []byte("keep")), mustPut(t, s, []byte("drop"))
	old := Sum([]byte("part"))
	for _, p := range []string{filepath.Join(dir, dirPart, old.hex()), filepath.Join(dir, dirBad, old.hex()), filepath.Join(dir, dirWhole, "junk")} {
		if err := os.WriteFile(p, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wanted := func(d Digest) bool { return d == keep }
	if n, _, err := s.GC(wanted, time.Hour); err != nil || n != 0 {
		t.Errorf("within the grace time: %d, %v", n, err)
	}
	n, size, err := s.GC(wanted, -time.Hour)
	if err != nil || n != 4 || size != 4+3 {
		t.Errorf("%d, %d, %v", n, size, err)
	}
	if _, ok := s.Has(keep); !ok {
		t.Error("removed what was to be kept")
	}
	if _, ok := s.Has(drop); ok {
		t.Error("kept what was to be removed")
	}
	// Has marks a blob as wanted.
	d := mustPut(t, s, []byte("asked for"))
	past := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(filepath.Join(dir, dirWhole, d.hex()), past, past); err != nil {
		t.Fatal(err)
	}
	s.Has(d)
	if n, _, _ := s.GC(wanted, time.Hour); n != 0 {
		t.Error("removed a blob that was just asked for")
	}
}

func TestRemove(t *testing.T) {
	s, _ := newStore(t)
	d := mustPut(t, s, []byte("x"))
	if err := errors.Join(s.Remove(d), s.Remove(d)); err != nil {
		t.Error(err)
	}
	if _, ok := s.Has(d); ok {
		t.Error("still there")
	}
}

func TestOpen(t *testing.T) {
	_, dir := newStore(t)
	left := filepath.Join(dir, dirPart, Sum(nil).hex()+putSuffix)
	if err := os.WriteFile(left, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(dir, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := os.Stat(left); err == nil {
		t.Error("what a dead Put left is still there")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file, Config{}); err == nil {
		t.Error("opened a file as a folder")
	}
}

// TestSymlink plants links out of the store where a blob is expected.
func TestSymlink(t *testing.T) {
	s, dir := newStore(t)
	secret := filepath.Join(t.TempDir(), "secret")
	b := []byte("secret")
	if err := os.WriteFile(secret, b, 0o600); err != nil {
		t.Fatal(err)
	}
	d := Sum(b)
	if err := os.Symlink(secret, filepath.Join(dir, dirWhole, d.hex())); err != nil {
		t.Skip(err)
	}
	if _, ok := s.Has(d); ok {
		t.Error("a link counts as a blob")
	}
	if _, err := s.Load(t.Context(), d); err == nil {
		t.Error("a link was followed out of the store")
	}
}

func BenchmarkLoad(b *testing.B) {
	s, _ := newStore(b)
	d := mustPut(b, s, content(32<<20, 1))
	for name, open := range map[string]func(context.Context, Digest) (*Data, error){"load": s.Load, "map": s.Map} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(32 << 20)
			for b.Loop() {
				data, err := open(b.Context(), d)
				if err != nil {
					b.Fatal(err)
				}
				_ = data.Close()
			}
		})
	}
}

// source is a Source made of a function.
type source struct {
	name string
	open func(from int64) (io.ReadCloser, int64, error)
}

func (s source) Name() string { return s.name }

func (s source) Open(ctx context.Context, d Digest, from int64) (io.ReadCloser, int64, error) {
	r, size, err := s.open(from)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", s.name, err)
	}
	return &until{r, ctx}, size, err
}

// until ends reads when ctx is done, as a body of net/http does.
type until struct {
	io.ReadCloser
	ctx context.Context
}

func (u *until) Read(b []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	buf := make([]byte, len(b))
	go func() {
		n, err := u.ReadCloser.Read(buf)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return copy(b, buf[:r.n]), r.err
	case <-u.ctx.Done():
		_ = u.ReadCloser.Close()
		<-done
		return 0, u.ctx.Err()
	}
}

// TestTrust: a blob that came through the store is not hashed again by this process, unless it is written to or distrusted; another
// process hashes it once.
func TestTrust(t *testing.T) {
	s, dir := newStore(t)
	b := content(700000, 1)
	d := mustPut(t, s, b)
	path := filepath.Join(dir, dirWhole, d.hex())
	rot := func() { // the disk's doing: no time of the file changes
		t.Helper()
		st, err := os.Stat(path)
		bad := bytes.Clone(b)
		bad[1000] ^= 1
		if err = errors.Join(err, os.Chmod(path, 0o600), os.WriteFile(path, bad, 0o600), os.Chtimes(path, st.ModTime(), st.ModTime())); err != nil {
			t.Fatal(err)
		}
	}
	rot()
	if _, ok := s.Has(d); !ok {
		t.Fatal("it is not here")
	}
	for how, open := range map[string]func(*Store, context.Context, Digest) (*Data, error){"load": (*Store).Load, "map": (*Store).Map} {
		data, err := open(s, t.Context(), d)
		if err != nil {
			t.Fatalf("%s: a file that was checked when it came was hashed again: %v", how, err)
		}
		if data.Mapped() != (how == "map" && canMap) {
			t.Errorf("%s: mapped is %v", how, data.Mapped())
		}
		_ = data.Close()
	}
	s.Distrust(d)
	if _, err := s.Map(t.Context(), d); !errors.Is(err, ErrCorrupt) {
		t.Errorf("distrusted: %v", err)
	}
	mustPut(t, s, b)
	later := time.Now().Add(time.Hour)
	rot()
	if err := os.Chtimes(path, later, later); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(t.Context(), d); !errors.Is(err, ErrCorrupt) {
		t.Errorf("written to: %v", err)
	}
}

// TestNew: memory for what is no blob, written and then sealed.
func TestNew(t *testing.T) {
	for _, n := range []int{0, 1, 5 << 20} {
		data, err := New(n)
		if err != nil || len(data.Bytes()) != n {
			t.Fatalf("%d bytes: %d, %v", n, len(data.Bytes()), err)
		}
		for i := range data.Bytes() {
			data.Bytes()[i] = byte(i)
		}
		if err := errors.Join(data.Seal(), data.Close()); err != nil {
			t.Error(err)
		}
	}
}
