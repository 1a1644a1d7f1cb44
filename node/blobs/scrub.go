package blobs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// Scrub reads every finished blob from the disk, past the page cache where that can be asked for, and checks its digest, whoever
// has checked it before: disks rot, and what nobody loads is noticed by nobody. A bad one is set aside and told to bad, from this
// goroutine. pace is called after each piece with its size, and waits as long as the scrub should; its error ends it. It returns how much was
// read. Blobs that come or go meanwhile do no harm.
func (s *Store) Scrub(ctx context.Context, pace func(ctx context.Context, n int) error, bad func(d Digest, err error)) (bytes int64, err error) {
	entries, err := fs.ReadDir(s.root.FS(), dirWhole)
	if err != nil {
		return 0, fmt.Errorf("blob store: %w", err)
	}
	for _, e := range entries {
		d, err := ParseDigest(digestPrefix + e.Name())
		if err != nil {
			continue // not a blob's name: GC removes it
		}
		n, err := s.check(ctx, d, pace)
		bytes += n
		switch {
		case errors.Is(err, ErrCorrupt):
			bad(d, err)
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return bytes, err
		}
	}
	return bytes, nil
}

// Total is the size of all finished blobs in bytes.
func (s *Store) Total() (bytes int64) {
	entries, err := fs.ReadDir(s.root.FS(), dirWhole)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		if st, err := e.Info(); err == nil {
			bytes += st.Size()
		}
	}
	return bytes
}

// check reads one blob and compares its digest.
func (s *Store) check(ctx context.Context, d Digest, pace func(ctx context.Context, n int) error) (read int64, err error) {
	f, st, err := s.open(d)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	// What memory holds of the file says nothing about the disk. Pages that somebody has mapped stay.
	forgetPages(f)
	h := sha256.New()
	piece := make([]byte, copySize)
	for read < st.Size() {
		n, err := io.ReadFull(f, piece[:min(int64(len(piece)), st.Size()-read)])
		read += int64(n)
		h.Write(piece[:n])
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return read, s.lost(d, s.setAside(d, f, "it was cut short"))
		}
		if err != nil {
			return read, s.lost(d, s.setAside(d, f, err.Error()))
		}
		if err := pace(ctx, n); err != nil {
			return read, err
		}
	}
	forgetPages(f) // nor should it push out what is in use
	var sum Digest
	h.Sum(sum.sum[:0])
	if sum != d {
		return read, s.lost(d, s.setAside(d, f, "its content is "+sum.String()))
	}
	return read, nil
}

// lost forgets that a blob was good.
func (s *Store) lost(d Digest, err error) error {
	s.Distrust(d)
	return err
}
