package blobs

import (
	"errors"
	"net/http"
	"strings"
	"time"
)

// pathBlobs is where Handler serves blobs; the digest follows.
const pathBlobs = "/blobs/"

// writeSpell is how long a reader may take nothing before it is given up.
const writeSpell = 30 * time.Second

// Handler serves GET and HEAD /blobs/sha256:HEX with ranges, to other nodes: it does not ask who.
func (s *Store) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, ok := strings.CutPrefix(r.URL.Path, pathBlobs)
		if !ok {
			http.NotFound(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "blobs can be read here, not written", http.StatusMethodNotAllowed)
			return
		}
		d, err := ParseDigest(name)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		f, _, err := s.open(d)
		if err != nil {
			status := http.StatusInternalServerError
			if errors.Is(err, ErrNotFound) {
				status = http.StatusNotFound
			}
			http.Error(w, http.StatusText(status), status)
			return
		}
		defer f.Close()
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("ETag", `"`+d.String()+`"`)
		http.ServeContent(&steadyWriter{ResponseWriter: w, control: http.NewResponseController(w)}, r, "", time.Time{}, f)
	})
}

// steadyWriter gives each write a deadline of its own: a large blob may take long, a reader that takes nothing may not.
type steadyWriter struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (w *steadyWriter) Write(b []byte) (int, error) {
	_ = w.control.SetWriteDeadline(time.Now().Add(writeSpell)) // not every writer has deadlines
	return w.ResponseWriter.Write(b)
}
