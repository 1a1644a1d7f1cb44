package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lamina/node/blobs"
)

// What was remembered is verified before anybody asks for it; a hint of nonsense does nothing.
func TestWarmUp(t *testing.T) {
	dir, data := t.TempDir(), t.TempDir()
	k, st := loader(t, tinyFile(t), dir, 1)
	var digests []string
	for _, b := range st.model.Blobs {
		digests = append(digests, b.Digest, b.Digest)
	}
	if err := remember(data, digests); err != nil {
		t.Fatal(err)
	}
	store := k.blobs.(*peerBlobs).store
	warmUp(t.Context(), data, store)
	for _, b := range st.model.Blobs {
		if err := k.blobs.Ensure(t.Context(), st.model, b); err != nil { // which touches the file
			t.Fatal(err)
		}
	}
	for _, b := range st.model.Blobs { // rot that leaves no trace but the content: who has verified does not look again
		path := filepath.Join(dir, "sha256", strings.TrimPrefix(b.Digest, "sha256:"))
		at, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{0xff}, at.Size()-1); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		if err := os.Chtimes(path, at.ModTime(), at.ModTime()); err != nil {
			t.Fatal(err)
		}
		d, _ := blobs.ParseDigest(b.Digest)
		m, err := store.Map(t.Context(), d)
		if err != nil {
			t.Errorf("part %s was not verified ahead: %v", b.Name, err)
			continue
		}
		_ = m.Close()
	}
	for _, hint := range []string{"", "nonsense\n\x00\n", "sha256:" + strings.Repeat("0", 64) + "\n"} {
		if err := os.WriteFile(filepath.Join(data, warmFile), []byte(hint), 0o600); err != nil {
			t.Fatal(err)
		}
		warmUp(t.Context(), data, store)
	}
}
