package blobs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Source can give a blob.
type Source interface {
	// Name is for messages.
	Name() string
	// Open gives the blob's bytes from an offset on, and the size of the whole. ErrNotFound: it has no such blob. Reads end when ctx is done.
	Open(ctx context.Context, d Digest, from int64) (r io.ReadCloser, size int64, err error)
}

// tries is how often one source is asked for one blob in one Fetch.
const tries = 3

// errStalled is why a source is given up that gives nothing.
var errStalled = errors.New("the source has stalled")

// Fetch brings a blob of a known size here. If it is here already, nothing is asked; when several fetch the same blob, one does and the others
// wait. Sources are asked in turn, each goes on where the last one ended, and an earlier attempt's part is taken up. progress (may be nil) is
// told how many bytes are here, from one goroutine; the number goes back when a source was wrong. When ctx ends or all sources fail (ErrNoSource, with each one's reason) the part
// is kept for the next attempt; a full disk (ErrDiskFull) removes it.
func (s *Store) Fetch(ctx context.Context, d Digest, size int64, sources []Source, progress func(n int64)) error {
	if size < 0 {
		return fmt.Errorf("%w: blob %s of %d bytes", ErrMismatch, d, size)
	}
	if progress == nil {
		progress = func(int64) {}
	}
	err := s.exclusive(ctx, d, func() error {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		p, err := s.resume(ctx, d, size)
		if err != nil {
			return err
		}
		progress(p.n)
		if err = s.room(size - p.n); err == nil {
			err = p.fetch(ctx, sources, progress)
		}
		switch {
		case err == nil:
			return p.finish()
		case errors.Is(err, ErrDiskFull):
			p.discard()
		default:
			_ = p.f.Close()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("blob %s: %w", d, err)
	}
	return nil
}

// resume opens the blob's part and hashes what is in it.
func (s *Store) resume(ctx context.Context, d Digest, size int64) (*part, error) {
	f, err := s.root.OpenFile(partName(d), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, diskError(err)
	}
	p := &part{s: s, d: d, size: size, f: f, name: partName(d), hash: sha256.New()}
	st, err := f.Stat()
	if err == nil && st.Size() > size {
		err = p.restart()
	} else if err == nil {
		p.n, err = copyContext(ctx, p.hash, f)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return p, nil
}

// copyContext is io.Copy that looks at ctx now and then.
func copyContext(ctx context.Context, w io.Writer, r io.Reader) (int64, error) {
	buf := make([]byte, copySize)
	var n int64
	for {
		if ctx.Err() != nil {
			return n, context.Cause(ctx)
		}
		k, err := r.Read(buf)
		if _, werr := w.Write(buf[:k]); werr != nil {
			return n, werr
		}
		n += int64(k)
		switch {
		case errors.Is(err, io.EOF):
			return n, nil
		case err != nil:
			return n, err
		}
	}
}

// fetch completes the part from the sources.
func (p *part) fetch(ctx context.Context, sources []Source, progress func(n int64)) error {
	left := slices.Clone(sources)
	var reasons []string
	for round := 0; round < tries && len(left) > 0; round++ {
		var again []Source
		for _, src := range left {
			from := p.n
			err := p.from(ctx, src, progress)
			if errors.Is(err, ErrMismatch) && from > 0 && p.n == 0 { // pieces of several: the whole from this one will tell
				err = p.from(ctx, src, progress)
			}
			var disk *writeError
			switch {
			case err == nil:
				return nil
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case errors.As(err, &disk):
				return err
			}
			reasons = append(reasons, fmt.Sprintf("%s: %v", src.Name(), err))
			p.s.cfg.Log.Warn("blob source failed", "source", src.Name(), "digest", p.d.String(), "have", p.n, "err", err)
			if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrMismatch) { // else it is asked no more
				again = append(again, src)
			}
		}
		left = again
	}
	if len(reasons) == 0 {
		return fmt.Errorf("%w: nobody is known to have it", ErrNoSource)
	}
	return fmt.Errorf("%w: %s", ErrNoSource, strings.Join(lastReasons(reasons), "; "))
}

// lastReasons keeps an error readable.
func lastReasons(r []string) []string { return r[max(0, len(r)-4):] }

// from takes the rest of the blob from one source; nil means that the blob is complete and right.
func (p *part) from(ctx context.Context, src Source, progress func(n int64)) error {
	if p.n < p.size {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		stall := time.AfterFunc(p.s.cfg.Stall, func() { cancel(errStalled) })
		defer stall.Stop()
		r, size, err := src.Open(ctx, p.d, p.n)
		if err != nil {
			return because(ctx, err)
		}
		defer r.Close()
		if size != p.size {
			return fmt.Errorf("%w: it has %d bytes there, %d are expected", ErrMismatch, size, p.size)
		}
		err = p.copy(ctx, r, func(n int64) {
			stall.Reset(p.s.cfg.Stall)
			progress(n)
		})
		if err != nil {
			return because(ctx, err)
		}
		if p.n < p.size {
			return fmt.Errorf("%w after %d of %d bytes", io.ErrUnexpectedEOF, p.n, p.size)
		}
	}
	if err := p.check(); err != nil {
		if rerr := p.restart(); rerr != nil {
			return &writeError{rerr}
		}
		return err
	}
	return nil
}

// because prefers why a context ended to what its end looked like from below.
func because(ctx context.Context, err error) error {
	var disk *writeError
	if ctx.Err() != nil && !errors.As(err, &disk) {
		return context.Cause(ctx)
	}
	return err
}

// HTTPSource is a node that serves Handler.
type HTTPSource struct {
	Client *http.Client
	Base   string // such as http://n2
	Node   string
}

var _ Source = HTTPSource{}

// Name implements Source.
func (h HTTPSource) Name() string { return h.Node }

// Open implements Source with a range request.
func (h HTTPSource) Open(ctx context.Context, d Digest, from int64) (io.ReadCloser, int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.Base+pathBlobs+d.String(), nil)
	if err != nil {
		return nil, 0, err
	}
	if from > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(from, 10)+"-")
	}
	resp, err := h.Client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	size, err := h.size(resp, from)
	if err != nil {
		_ = resp.Body.Close()
		return nil, 0, err
	}
	return resp.Body, size, nil
}

// size checks the answer and reads the size of the whole blob.
func (h HTTPSource) size(resp *http.Response, from int64) (int64, error) {
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return 0, ErrNotFound
	case resp.StatusCode == http.StatusOK && from == 0:
		if resp.ContentLength < 0 {
			return 0, fmt.Errorf("%w: it does not say how long it is", ErrMismatch)
		}
		return resp.ContentLength, nil
	case resp.StatusCode == http.StatusPartialContent:
		var first, last, size int64
		if n, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &size); n != 3 || err != nil || first != from {
			return 0, fmt.Errorf("%w: range %.60q was sent, bytes from %d on were asked for", ErrMismatch, resp.Header.Get("Content-Range"), from)
		}
		return size, nil
	}
	return 0, fmt.Errorf("answer %s", resp.Status)
}
