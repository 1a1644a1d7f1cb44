package blobs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The folders of a Store.
const (
	dirWhole = "sha256" // finished blobs, by hex digest
	dirPart  = "part"   // blobs on their way
	dirBad   = "bad"    // finished blobs that have gone bad
)

// copySize is how much is read, hashed and written at once.
const copySize = 256 << 10

// Config says how a Store behaves. Zero fields stand for the defaults.
type Config struct {
	// Reserve is how much of the disk stays free. Default 64 MiB.
	Reserve int64
	// Fetches bounds the blobs that are fetched at once. Default 4.
	Fetches int
	// Stall is how long a source may give nothing before the next one is tried. Default 10 s.
	Stall time.Duration
	Log   *slog.Logger // default: discard
}

func (c Config) withDefaults() Config {
	if c.Reserve <= 0 {
		c.Reserve = 64 << 20
	}
	if c.Fetches <= 0 {
		c.Fetches = 4
	}
	if c.Stall <= 0 {
		c.Stall = 10 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Store is a folder of blobs. It is safe for concurrent use, by one process.
type Store struct {
	cfg   Config
	root  *os.Root
	slots chan struct{}
	// For tests that break the disk.
	writer func(f *os.File) io.Writer
	free   func(root *os.Root) (int64, bool)

	mu struct {
		sync.Mutex
		flights   map[Digest]chan struct{} // blobs being written; closed at the end
		verifying map[Digest]chan struct{} // closed at the end
		verified  map[Digest]os.FileInfo   // files whose digest was checked
		touched   map[Digest]time.Time     // change times that are Has's doing
	}
}

// Open opens the store in dir, which is made if need be.
func Open(dir string, cfg Config) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("blob store: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("blob store: %w", err)
	}
	s := &Store{cfg: cfg.withDefaults(), root: root, writer: func(f *os.File) io.Writer { return f }, free: freeSpace}
	s.slots = make(chan struct{}, s.cfg.Fetches)
	s.mu.flights = map[Digest]chan struct{}{}
	s.mu.verified = map[Digest]os.FileInfo{}
	s.mu.verifying = map[Digest]chan struct{}{}
	s.mu.touched = map[Digest]time.Time{}
	for _, d := range []string{dirWhole, dirPart, dirBad} {
		if err := root.Mkdir(d, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			_ = root.Close()
			return nil, fmt.Errorf("blob store: %w", err)
		}
	}
	if err := s.clearPuts(); err != nil {
		_ = root.Close()
		return nil, fmt.Errorf("blob store: %w", err)
	}
	return s, nil
}

// Close releases the folder. Loaded and mapped data stay valid.
func (s *Store) Close() error { return s.root.Close() }

// putSuffix marks files of Put, which nobody resumes.
const putSuffix = ".put"

// clearPuts removes what a Put left when its process died.
func (s *Store) clearPuts() error {
	entries, err := fs.ReadDir(s.root.FS(), dirPart)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), putSuffix) {
			err = errors.Join(err, s.root.Remove(path.Join(dirPart, e.Name())))
		}
	}
	return err
}

func wholeName(d Digest) string { return path.Join(dirWhole, d.hex()) }
func partName(d Digest) string  { return path.Join(dirPart, d.hex()) }

// Has says whether the blob is here, and its size. It also marks the blob as wanted now, so that a GC with a grace
// time spares it.
func (s *Store) Has(d Digest) (size int64, ok bool) {
	st, err := s.root.Lstat(wholeName(d))
	if err != nil || !st.Mode().IsRegular() {
		return 0, false
	}
	now, untouched := time.Now(), s.untouched(d, st)
	_ = s.root.Chtimes(wholeName(d), now, now)
	if after, err := s.root.Lstat(wholeName(d)); untouched && err == nil {
		s.mu.Lock()
		s.mu.touched[d] = after.ModTime()
		s.mu.Unlock()
	}
	return st.Size(), true
}

// exclusive runs work for a blob while nobody else writes it, and not at all if the blob is there by then.
func (s *Store) exclusive(ctx context.Context, d Digest, work func() error) error {
	for {
		if _, ok := s.Has(d); ok {
			return nil
		}
		s.mu.Lock()
		other := s.mu.flights[d]
		if other == nil {
			done := make(chan struct{})
			s.mu.flights[d] = done
			s.mu.Unlock()
			defer func() {
				s.mu.Lock()
				delete(s.mu.flights, d)
				s.mu.Unlock()
				close(done)
			}()
			if _, ok := s.Has(d); ok { // it came between the two looks
				return nil
			}
			return work()
		}
		s.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Put stores size bytes of r under their digest. If the blob is here already, r is not read. When several put the same blob at once,
// one does and the others wait. On an error (ErrMismatch, ErrDiskFull, of r, of the disk) nothing is left.
func (s *Store) Put(ctx context.Context, d Digest, size int64, r io.Reader) error {
	if size < 0 {
		return fmt.Errorf("%w: blob %s of %d bytes", ErrMismatch, d, size)
	}
	return s.exclusive(ctx, d, func() error {
		if err := s.room(size); err != nil {
			return fmt.Errorf("blob %s: %w", d, err)
		}
		name := partName(d) + putSuffix
		f, err := s.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return fmt.Errorf("blob %s: %w", d, diskError(err))
		}
		p := &part{s: s, d: d, size: size, f: f, name: name, hash: sha256.New()}
		err = p.copy(ctx, io.LimitReader(r, size+1), nil)
		if err == nil && p.n < size {
			err = fmt.Errorf("%w: %d bytes came, %d were announced", ErrMismatch, p.n, size)
		}
		if err == nil {
			err = p.check()
		}
		if err == nil {
			err = p.finish()
		}
		if err != nil {
			p.discard()
			return fmt.Errorf("blob %s: %w", d, err)
		}
		return nil
	})
}

// room says whether size more bytes fit on the disk with the reserve kept.
func (s *Store) room(size int64) error {
	free, ok := s.free(s.root)
	if ok && free-s.cfg.Reserve < size {
		return fmt.Errorf("%w: %d bytes are needed and %d of reserve, %d are free: make room or use another data directory", ErrDiskFull, size, s.cfg.Reserve, free)
	}
	return nil
}

// diskError adds ErrDiskFull to the errors of a full disk.
func diskError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return err
}

// part is a blob on its way to the disk.
type part struct {
	s    *Store
	d    Digest
	size int64
	f    *os.File
	name string
	hash hash.Hash // of the first n bytes
	n    int64
}

// writeError is an error of our disk, not of the source.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// copy appends what r gives, until its end, its error, or ctx. More than size bytes are ErrMismatch. progress may be nil.
func (p *part) copy(ctx context.Context, r io.Reader, progress func(n int64)) error {
	buf := make([]byte, min(copySize, p.size-p.n+1))
	w := p.s.writer(p.f)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := r.Read(buf)
		if int64(n) > p.size-p.n {
			return fmt.Errorf("%w: more than the announced %d bytes came", ErrMismatch, p.size)
		}
		if werr := p.write(w, buf[:n]); werr != nil {
			return &writeError{diskError(werr)}
		}
		if progress != nil && n > 0 {
			progress(p.n)
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// write takes back what a failed write left, so that file, hash and n agree.
func (p *part) write(w io.Writer, b []byte) error {
	n, err := w.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return errors.Join(err, p.seek(p.n))
	}
	p.hash.Write(b)
	p.n += int64(n)
	return nil
}

// seek cuts the file at n and goes there.
func (p *part) seek(n int64) error {
	if err := p.f.Truncate(n); err != nil {
		return err
	}
	_, err := p.f.Seek(n, io.SeekStart)
	return err
}

// restart empties the part.
func (p *part) restart() error {
	p.hash.Reset()
	p.n = 0
	return p.seek(0)
}

// check compares the digest of all that came.
func (p *part) check() error {
	var sum Digest
	p.hash.Sum(sum.sum[:0])
	if sum != p.d {
		return fmt.Errorf("%w: it is %s", ErrMismatch, sum)
	}
	return nil
}

// finish makes the part a blob: synced, read-only, renamed.
func (p *part) finish() error {
	err := errors.Join(p.f.Chmod(0o400), p.f.Sync())
	st, serr := p.f.Stat()
	if cerr := p.f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return diskError(err)
	}
	if err := p.s.root.Rename(p.name, wholeName(p.d)); err != nil {
		return diskError(err)
	}
	if serr == nil {
		p.s.trust(p.d, st) // its digest was checked on the way
	}
	return p.s.syncDir(dirWhole)
}

// discard removes the part. The file may be closed already.
func (p *part) discard() {
	_ = p.f.Close()
	if err := p.s.root.Remove(p.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.s.cfg.Log.Warn("blob store: part not removed", "err", err)
	}
}

func (s *Store) syncDir(name string) error {
	d, err := s.root.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // some file systems cannot sync folders
		return err
	}
	return nil
}
