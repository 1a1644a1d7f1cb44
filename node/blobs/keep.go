package blobs

import (
	"errors"
	"fmt"
	"io/fs"
)

// Remove deletes a blob. It does nothing if the blob is not here. Loaded and mapped data stay valid.
func (s *Store) Remove(d Digest) error {
	if err := s.root.Remove(wholeName(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("blob %s: %w", d, err)
	}
	return nil
}

// New returns writable memory of n bytes, of the kind that Load uses. Seal makes it read-only.
func New(n int) (*Data, error) {
	data, err := allocate(n)
	if err != nil {
		return nil, fmt.Errorf("memory for %d bytes: %w", n, err)
	}
	return data, nil
}

// Seal makes the bytes read-only.
func (d *Data) Seal() error {
	if err := protect(d.b); err != nil {
		return fmt.Errorf("memory of %d bytes: %w", len(d.b), err)
	}
	return nil
}
