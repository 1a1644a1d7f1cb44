package blobs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"sync"
)

// Data is a blob in memory. The bytes are read-only: writing to them is a fault.
type Data struct {
	b      []byte
	mapped bool
	free   func() error
	once   sync.Once
}

// Mapped says whether the bytes are the file's own. If it is cut short or its disk cannot be read, reading them is a fault
// (see runtime/debug.SetPanicOnFault).
func (d *Data) Mapped() bool { return d.mapped }

// Bytes are the content; they must not be used after Close.
func (d *Data) Bytes() []byte { return d.b }

// Close gives the memory back. More than once is harmless.
func (d *Data) Close() error {
	var err error
	d.once.Do(func() {
		d.b = nil
		err = d.free()
	})
	return err
}

// Load reads a blob into anonymous memory and checks its digest on the way, unless this Store has checked it before: see Map.
// ErrNotFound: it is not here. ErrCorrupt: it has gone bad.
func (s *Store) Load(ctx context.Context, d Digest) (*Data, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	f, st, err := s.open(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := allocate(int(st.Size()))
	if err != nil {
		return nil, fmt.Errorf("blob %s: memory for %d bytes: %w", d, st.Size(), err)
	}
	if err := s.fill(ctx, d, f, st, data.b); err != nil {
		_ = data.Close()
		return nil, err
	}
	if err := protect(data.b); err != nil {
		_ = data.Close()
		return nil, fmt.Errorf("blob %s: %w", d, err)
	}
	return data, nil
}

// open opens a finished blob.
func (s *Store) open(d Digest) (*os.File, os.FileInfo, error) {
	f, err := s.root.Open(wholeName(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w: %s", ErrNotFound, d)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("blob %s: %w", d, err)
	}
	st, err := f.Stat()
	if err == nil && (!st.Mode().IsRegular() || st.Size() > math.MaxInt) {
		err = errors.New("not a file that can be loaded")
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, fmt.Errorf("blob %s: %w", d, err)
	}
	return f, st, nil
}

// fill reads the file into b and checks the digest if need be.
func (s *Store) fill(ctx context.Context, d Digest, f *os.File, st os.FileInfo, b []byte) error {
	known := s.trusts(d, st)
	h := sha256.New()
	for at := 0; at < len(b); {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		piece := b[at:min(at+copySize, len(b))]
		n, err := io.ReadFull(f, piece)
		if err == io.ErrUnexpectedEOF || err == io.EOF {
			return s.setAside(d, f, "it was cut short")
		}
		if err != nil {
			return s.setAside(d, f, err.Error()) // a sector that cannot be read is as bad as a wrong one
		}
		if !known {
			h.Write(piece)
		}
		at += n
	}
	if known {
		return nil
	}
	var sum Digest
	h.Sum(sum.sum[:0])
	if sum != d {
		return s.setAside(d, f, "its content is "+sum.String())
	}
	s.trust(d, st)
	return nil
}

// trusts says whether this Store has checked the digest of this very file, and nobody has written to it since. What the disk
// itself does to it is not seen.
func (s *Store) trusts(d Digest, st os.FileInfo) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.mu.verified[d]
	return ok && os.SameFile(known, st) && known.Size() == st.Size() && (known.ModTime().Equal(st.ModTime()) || s.mu.touched[d].Equal(st.ModTime()))
}

// untouched says whether nobody but Has has written to a file since its digest was checked, or it was not checked yet.
func (s *Store) untouched(d Digest, st os.FileInfo) bool {
	s.mu.Lock()
	_, known := s.mu.verified[d]
	s.mu.Unlock()
	return !known || s.trusts(d, st)
}

func (s *Store) trust(d Digest, st os.FileInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.verified[d] = st
}

// Distrust makes the next Map or Load of the blob check its digest again.
func (s *Store) Distrust(d Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.verified, d)
}

// setAside moves a bad file out of the way, unless another one has taken its place meanwhile, and returns ErrCorrupt.
func (s *Store) setAside(d Digest, f *os.File, why string) error {
	err := fmt.Errorf("%w: %s: %s", ErrCorrupt, d, why)
	mine, e1 := f.Stat()
	now, e2 := s.root.Lstat(wholeName(d))
	if e1 != nil || e2 != nil || !os.SameFile(mine, now) {
		return err
	}
	s.cfg.Log.Error("blob set aside", "digest", d.String(), "err", why)
	if rerr := s.root.Rename(wholeName(d), path.Join(dirBad, d.hex())); rerr != nil {
		return fmt.Errorf("%w; it cannot be moved away: %w", err, rerr)
	}
	return err
}

// Map maps a blob read-only. Its digest is checked, over the mapping, unless this Store has done so before, when it was stored,
// mapped or loaded: later calls cost nothing. Where files cannot be mapped it is Load.
func (s *Store) Map(ctx context.Context, d Digest) (*Data, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	f, st, err := s.open(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if !canMap || st.Size() == 0 {
		return s.Load(ctx, d)
	}
	data, err := mapFile(f, int(st.Size()))
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d, err)
	}
	if err := s.verifyOnce(ctx, d, f, st, data.b); err != nil {
		_ = data.Close()
		return nil, err
	}
	return data, nil
}

// verifyOnce verifies a mapping that is not trusted; who comes while another does so waits for that.
func (s *Store) verifyOnce(ctx context.Context, d Digest, f *os.File, st os.FileInfo, b []byte) error {
	for !s.trusts(d, st) {
		s.mu.Lock()
		other := s.mu.verifying[d]
		if other == nil {
			done := make(chan struct{})
			s.mu.verifying[d] = done
			s.mu.Unlock()
			defer func() {
				s.mu.Lock()
				delete(s.mu.verifying, d)
				s.mu.Unlock()
				close(done)
			}()
			err := s.verify(ctx, d, f, b)
			if err == nil {
				s.trust(d, st)
			}
			return err
		}
		s.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// verify hashes a mapping. What has been hashed stays in memory, so that the first step need not wait for it.
func (s *Store) verify(ctx context.Context, d Digest, f *os.File, b []byte) error {
	h := sha256.New()
	for at := 0; at < len(b); at += copySize {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := guard(func() { h.Write(b[at:min(at+copySize, len(b))]) }); err != nil {
			return s.setAside(d, f, "it was cut short or its disk cannot be read: "+err.Error())
		}
	}
	var sum Digest
	h.Sum(sum.sum[:0])
	if sum != d {
		return s.setAside(d, f, "its content is "+sum.String())
	}
	return nil
}

// guard turns the fault of a mapping whose file cannot be read into an error.
func guard(f func()) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			fault, ok := p.(interface {
				error
				Addr() uintptr
			})
			if !ok {
				panic(p)
			}
			err = fault
		}
	}()
	f()
	return nil
}
