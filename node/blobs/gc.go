package blobs

import (
	"errors"
	"io/fs"
	"path"
	"time"
)

// GC removes blobs that keep does not want, unfinished parts, and bad files, all only if nothing has happened to them for the grace time: a client
// uploads blobs before it names them. It returns how many files and bytes it removed. Loaded and mapped data stay valid.
func (s *Store) GC(keep func(Digest) bool, grace time.Duration) (files int, bytes int64, err error) {
	before := time.Now().Add(-grace)
	for _, dir := range []string{dirWhole, dirPart, dirBad} {
		entries, rerr := fs.ReadDir(s.root.FS(), dir)
		err = errors.Join(err, rerr)
		for _, e := range entries {
			st, serr := e.Info()
			if serr != nil || !st.Mode().IsRegular() || st.ModTime().After(before) {
				continue
			}
			d, derr := ParseDigest(digestPrefix + e.Name())
			if derr == nil && (dir == dirWhole && keep(d) || dir == dirPart && s.busy(d)) {
				continue
			}
			if rerr := s.root.Remove(path.Join(dir, e.Name())); rerr != nil {
				err = errors.Join(err, rerr)
				continue
			}
			files++
			bytes += st.Size()
		}
	}
	return files, bytes, err
}

// busy says whether the blob is being written.
func (s *Store) busy(d Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.flights[d] != nil
}
