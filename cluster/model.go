package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Model is a manifest under a name: what the planner and the nodes must know of a model, without its bytes.
// Models are immutable; Stages and Replicas are wishes about their placement and may change.
type Model struct {
	Name    string `json:"name"`   // 1 to 128 of letters, digits and . _ : / -
	Digest  string `json:"digest"` // ManifestDigest of this model
	Arch    string `json:"arch"`
	Layers  int    `json:"layers"`
	Hidden  int    `json:"hidden"`
	Vocab   int    `json:"vocab"`
	Context int    `json:"context"`
	KVBytes int64  `json:"kv_bytes"` // of the KV cache, per position and layer
	// Tied says that the output head reads the embedding, so the last stage loads that blob too.
	Tied  bool   `json:"tied,omitempty"`
	Blobs []Blob `json:"blobs"`

	Created  time.Time `json:"created"`
	Stages   int       `json:"stages,omitempty"`   // 0: the planner decides
	Replicas int       `json:"replicas,omitempty"` // 0: the planner decides
	Origin   NodeID    `json:"origin,omitempty"`   // the node that took the upload and has every blob
}

// Names of the blobs every model has; the layers are LayerBlob.
const (
	BlobMeta  = "meta"
	BlobEmbed = "embed"
	BlobHead  = "head"
)

// LayerBlob returns the name of a layer's blob.
func LayerBlob(layer int) string { return fmt.Sprintf("layer.%d", layer) }

// Limits of a manifest, checked before anything is done with it.
const (
	maxLayers  = 4096
	maxBlobs   = maxLayers + 64
	maxContext = 1 << 24
	maxDim     = 1 << 24
	maxBlob    = 1 << 40 // bytes
	maxKVBytes = 1 << 30 // per position and layer
)

// manifest is the part of a model that its digest covers: all that decides which answers it gives.
// Fields are only ever added with omitempty, so that old digests stay.
type manifest struct {
	Arch    string `json:"arch"`
	Layers  int    `json:"layers"`
	Hidden  int    `json:"hidden"`
	Vocab   int    `json:"vocab"`
	Context int    `json:"context"`
	KVBytes int64  `json:"kv_bytes"`
	Tied    bool   `json:"tied"`
	Blobs   []Blob `json:"blobs"`
}

// ManifestDigest returns the digest of the model's content: SHA-256 of its manifest as canonical JSON,
// without name, wishes, origin and date. The order of Blobs counts.
func (m Model) ManifestDigest() string {
	data, err := json.Marshal(manifest{m.Arch, m.Layers, m.Hidden, m.Vocab, m.Context, m.KVBytes, m.Tied, m.Blobs})
	if err != nil { // cannot be: the struct holds strings and numbers only
		return ""
	}
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Blob returns the blob of that name.
func (m Model) Blob(name string) (Blob, bool) {
	for _, b := range m.Blobs {
		if b.Name == name {
			return b, true
		}
	}
	return Blob{}, false
}

// SpanBlobs returns what a stage of layers first to end (exclusive) loads: meta; embed at the start, and at
// the end too if it is tied; its layers; head at the end. Nil if the span does not lie within the model.
func (m Model) SpanBlobs(first, end int) []Blob {
	if first < 0 || end > m.Layers || first >= end {
		return nil
	}
	want := map[string]bool{
		BlobMeta:  true,
		BlobEmbed: first == 0 || end == m.Layers && m.Tied,
		BlobHead:  end == m.Layers,
	}
	for l := first; l < end; l++ {
		want[LayerBlob(l)] = true
	}
	var out []Blob
	for _, b := range m.Blobs {
		if want[b.Name] {
			out = append(out, b)
		}
	}
	return out
}

// Validate checks the manifest: name, limits, every blob present once, and that Digest is its digest.
func (m Model) Validate() error {
	if err := CheckModelName(m.Name); err != nil {
		return err
	}
	dims := []struct {
		name     string
		val, max int64
	}{
		{"layers", int64(m.Layers), maxLayers}, {"hidden", int64(m.Hidden), maxDim}, {"vocab", int64(m.Vocab), maxDim},
		{"context", int64(m.Context), maxContext}, {"kv_bytes", m.KVBytes, maxKVBytes},
	}
	for _, d := range dims {
		if d.val < 1 || d.val > d.max {
			return fmt.Errorf("%w: %s of model %q is %d, allowed are 1 to %d", ErrInvalid, d.name, m.Name, d.val, d.max)
		}
	}
	if err := text("architecture", m.Arch, 1); err != nil {
		return err
	}
	if m.Stages < 0 || m.Stages > m.Layers {
		return fmt.Errorf("%w: %d stages for the %d layers of model %q", ErrInvalid, m.Stages, m.Layers, m.Name)
	}
	if m.Replicas < 0 || m.Replicas > 1024 {
		return fmt.Errorf("%w: %d replicas of model %q, allowed are 0 to 1024", ErrInvalid, m.Replicas, m.Name)
	}
	if err := m.checkBlobs(); err != nil {
		return err
	}
	if m.Digest != m.ManifestDigest() {
		return fmt.Errorf("%w: digest of model %q is not that of its manifest", ErrInvalid, m.Name)
	}
	return nil
}

// checkBlobs checks names, digests and sizes, and that no required blob is missing.
func (m Model) checkBlobs() error {
	if len(m.Blobs) > maxBlobs {
		return fmt.Errorf("%w: model %q has %d blobs, at most %d", ErrInvalid, m.Name, len(m.Blobs), maxBlobs)
	}
	seen := make(map[string]bool, len(m.Blobs))
	for _, b := range m.Blobs {
		if err := text("blob name", b.Name, 1); err != nil {
			return err
		}
		if seen[b.Name] {
			return fmt.Errorf("%w: blob %s of model %q is there twice", ErrInvalid, b.Name, m.Name)
		}
		seen[b.Name] = true
		if !isDigest(b.Digest) {
			return fmt.Errorf("%w: digest of blob %s of model %q is not sha256: and 64 hex digits", ErrInvalid, b.Name, m.Name)
		}
		if b.Size < 1 || b.Size > maxBlob {
			return fmt.Errorf("%w: blob %s of model %q has %d bytes", ErrInvalid, b.Name, m.Name, b.Size)
		}
	}
	need := []string{BlobMeta, BlobEmbed, BlobHead}
	for l := range m.Layers {
		need = append(need, LayerBlob(l))
	}
	for _, name := range need {
		if !seen[name] {
			return fmt.Errorf("%w: model %q has no blob %s", ErrInvalid, m.Name, name)
		}
	}
	return nil
}

// CheckModelName says whether a string may name a model: 1 to 128 letters, digits and . _ : / - ,
// no leading slash and no two dots in a row (names end up in URLs and messages).
func CheckModelName(name string) error {
	bad := name == "" || len(name) > 128 || name[0] == '/' || strings.Contains(name, "..")
	for i := 0; i < len(name) && !bad; i++ {
		bad = !isAlnum(name[i]) && !strings.ContainsRune("._:/-", rune(name[i]))
	}
	if bad {
		return fmt.Errorf("%w: model name %.140q: no leading slash, no two dots in a row, and 1 to 128 of letters, digits, dot, underscore, colon, slash, dash", ErrInvalid, name)
	}
	return nil
}

// CheckNodeID says whether a string may name a node.
func CheckNodeID(id NodeID) error {
	bad := id == "" || len(id) > 64 || !isAlnum(id[0])
	for i := 0; i < len(id) && !bad; i++ {
		bad = !isAlnum(id[i]) && !strings.ContainsRune("._-", rune(id[i]))
	}
	if bad {
		return fmt.Errorf("%w: node name %.80q: use 1 to 64 letters, digits and . _ - with a letter or digit in front", ErrInvalid, id)
	}
	return nil
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// isDigest reports whether s is sha256: and 64 lower-case hex digits.
func isDigest(s string) bool {
	hexes, ok := strings.CutPrefix(s, "sha256:")
	if !ok || len(hexes) != 64 {
		return false
	}
	for i := range len(hexes) {
		if c := hexes[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
