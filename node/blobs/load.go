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
	"sync"
)

// Data is a blob in memory. The bytes are read-only: writing to them is a fault.
type Data struct {
	b    []byte
	free func() error
	once sync.Once
}

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

// Load reads a blob into anonymous memory and checks its digest on the way. ErrNotFound: it is not here. ErrCorrupt: it has gone bad.
func (s *Store) Load(ctx context.Context, d Digest) (*Data, error) {
	f, st, err := s.open(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := allocate(int(st.Size()))
	if err != nil {
		return nil, fmt.Errorf("blob %s: memory for %d bytes: %w", d, st.Size(), err)
	}
	if err := s.fill(ctx, d, f, data.b); err != nil {
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

// fill reads the file into b and checks the digest.
func (s *Store) fill(ctx context.Context, d Digest, f *os.File, b []byte) error {
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
		h.Write(piece)
		at += n
	}
	var sum Digest
	h.Sum(sum.sum[:0])
	if sum != d {
		return s.setAside(d, f, "its content is "+sum.String())
	}
	return nil
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

// Map maps a blob read-only. Its digest is checked when the Store maps this file for the first time; later calls cost nothing.
// Where files cannot be mapped it is Load.
func (s *Store) Map(ctx context.Context, d Digest) (*Data, error) {
	f, st, err := s.open(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if !canMap || st.Size() == 0 {
		return s.Load(ctx, d)
	}
	s.mu.Lock()
	known, ok := s.mu.verified[d]
	s.mu.Unlock()
	if !ok || !os.SameFile(known, st) || known.Size() != st.Size() {
		if err := s.verify(ctx, d, f); err != nil {
			return nil, err
		}
		s.mu.Lock()
		s.mu.verified[d] = st
		s.mu.Unlock()
	}
	data, err := mapFile(f, int(st.Size()))
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d, err)
	}
	return data, nil
}

// verify hashes the file by reading it, so that a file cut short is an error and not a fault.
func (s *Store) verify(ctx context.Context, d Digest, f *os.File) error {
	h := sha256.New()
	if _, err := copyContext(ctx, h, f); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return s.setAside(d, f, err.Error())
	}
	var sum Digest
	h.Sum(sum.sum[:0])
	if sum != d {
		return s.setAside(d, f, "its content is "+sum.String())
	}
	return nil
}
