// Package blobs keeps the parts of models on disk, under the SHA-256 of their content, and fetches them from other nodes.
//
// A Store is a folder. A blob is in it as a whole or not at all: bytes go to a temporary file, are hashed on the way, synced, and renamed
// when the digest is right. Fetch resumes what an earlier attempt left and goes from source to source. Load brings a blob into anonymous
// memory (huge pages where the kernel has them) and checks the digest of what it read; Map maps the file, checked once in the life of the
// Store. A file that has gone bad is set aside and reported as ErrCorrupt, so that the caller fetches it again: no wrong byte is ever
// handed out. All files are reached through an os.Root, and their names are made from parsed digests only.
//
// A mapped file that is cut short behind the Store's back is a fatal fault (SIGBUS). The Store never changes a
// finished file, only unlinks it, which leaves mappings whole; Load is immune to everything.
package blobs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Errors, wrapped with the particulars.
var (
	// ErrDigest: not sha256: and 64 lower-case hex digits.
	ErrDigest = errors.New("invalid digest")
	// ErrNotFound: the blob is not here.
	ErrNotFound = errors.New("blob not found")
	// ErrMismatch: the bytes that came are not those of the digest, or not as many as announced.
	ErrMismatch = errors.New("content does not match its digest")
	// ErrCorrupt: the stored file has gone bad; it was set aside. Fetch the blob again.
	ErrCorrupt = errors.New("stored blob is corrupt")
	// ErrDiskFull: there is no room for the blob.
	ErrDiskFull = errors.New("not enough disk space")
	// ErrNoSource: none of the sources could give the blob.
	ErrNoSource = errors.New("no source for the blob")
)

// Digest names a blob: the SHA-256 of its content. The zero value is no digest of anything.
type Digest struct{ sum [sha256.Size]byte }

const digestPrefix = "sha256:"

// ParseDigest reads sha256: and 64 lower-case hex digits.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	h, ok := strings.CutPrefix(s, digestPrefix)
	if !ok || len(h) != 2*sha256.Size || strings.ToLower(h) != h {
		return d, fmt.Errorf("%w: %.80q is not sha256: and 64 lower-case hex digits", ErrDigest, s)
	}
	if _, err := hex.Decode(d.sum[:], []byte(h)); err != nil {
		return d, fmt.Errorf("%w: %.80q: %w", ErrDigest, s, err)
	}
	return d, nil
}

// Sum is the digest of b.
func Sum(b []byte) Digest { return Digest{sha256.Sum256(b)} }

// String returns sha256:hex.
func (d Digest) String() string { return digestPrefix + d.hex() }

func (d Digest) hex() string { return hex.EncodeToString(d.sum[:]) }
