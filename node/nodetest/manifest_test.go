package nodetest

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"lamina/cluster"
	"lamina/node"
	"lamina/shard"
	"lamina/shard/gguf"
	"lamina/shard/tiny"
)

// A manifest that lies about its blobs is refused with what is wrong, and leaves nothing behind; the node goes on serving.
func TestManifestsThatLie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Start(t, 1)
		adm := c.Nodes[0].Admin()
		honest := upload(c, tiny.Llama(tiny.Config{Seed: 1}))
		other := upload(c, tiny.Llama(tiny.Config{Seed: 2, Hidden: 128}))
		untied := upload(c, tiny.Llama(tiny.Config{Seed: 3, Untied: true}))
		qwen := upload(c, tiny.Qwen2(tiny.Config{Seed: 4}))
		junk := []byte("this is no part of any model, whatever its name says")
		junkBlob := cluster.Blob{Digest: node.BlobDigest(junk), Size: int64(len(junk))}
		if err := adm.PutBlob(t.Context(), junkBlob.Digest, junkBlob.Size, bytes.NewReader(junk)); err != nil {
			c.Fatalf("%v", err)
		}
		// part is the blob of that name of another model.
		part := func(of cluster.Model, name string) cluster.Blob {
			b, _ := of.Blob(name)
			return b
		}
		// with takes b as the part of that name.
		with := func(name string, b cluster.Blob) func(*cluster.Model) {
			return func(m *cluster.Model) {
				i := slices.IndexFunc(m.Blobs, func(x cluster.Blob) bool { return x.Name == name })
				b.Name = name
				m.Blobs[i] = b
			}
		}
		for what, lie := range map[string]func(*cluster.Model){
			"too few layers": func(m *cluster.Model) {
				m.Layers--
				m.Blobs = slices.DeleteFunc(m.Blobs, func(b cluster.Blob) bool { return b.Name == cluster.LayerBlob(m.Layers) })
			},
			"too many layers": func(m *cluster.Model) {
				m.Layers++
				m.Blobs = append(m.Blobs, cluster.Blob{Name: cluster.LayerBlob(m.Layers - 1), Digest: junkBlob.Digest, Size: junkBlob.Size})
			},
			"another width":                 func(m *cluster.Model) { m.Hidden *= 2 },
			"a larger vocabulary":           func(m *cluster.Model) { m.Vocab++ },
			"a longer context":              func(m *cluster.Model) { m.Context *= 2 },
			"a cache of a byte":             func(m *cluster.Model) { m.KVBytes = 1 },
			"not tied":                      func(m *cluster.Model) { m.Tied = false },
			"another architecture":          func(m *cluster.Model) { m.Arch = "qwen2" },
			"metadata that is none":         with(cluster.BlobMeta, junkBlob),
			"a layer that is none":          with(cluster.LayerBlob(1), junkBlob),
			"an embedding that is none":     with(cluster.BlobEmbed, junkBlob),
			"a head that is none":           with(cluster.BlobHead, junkBlob),
			"a layer as the embedding":      with(cluster.BlobEmbed, part(honest, cluster.LayerBlob(0))),
			"a wider model's layer":         with(cluster.LayerBlob(3), part(other, cluster.LayerBlob(3))),
			"another model's metadata":      with(cluster.BlobMeta, part(qwen, cluster.BlobMeta)),
			"a tied model's head":           func(m *cluster.Model) { *m = clone(untied); with(cluster.BlobHead, part(honest, cluster.BlobHead))(m) },
			"a size that is not the blob's": func(m *cluster.Model) { m.Blobs[2].Size++ },
		} {
			m := clone(honest)
			lie(&m)
			m.Name = "liar"
			m.Digest = m.ManifestDigest()
			if err := m.Validate(); err != nil {
				t.Errorf("%s: the manifest contradicts itself, which is another test: %v", what, err)
			}
			if _, err := adm.AddModel(t.Context(), m); !errors.Is(err, cluster.ErrInvalid) {
				t.Errorf("%s: want ErrInvalid, got %v", what, err)
			}
			if list, err := adm.ListModels(t.Context()); err != nil || len(list) != 0 {
				t.Fatalf("%s: stays: %+v %v", what, list, err)
			}
		}
		honest.Name = "m"
		if _, err := adm.AddModel(t.Context(), honest); err != nil {
			c.Fatalf("the honest manifest: %v", err)
		}
		c.Serves("m")
	})
}

// upload puts the parts of a model on the first node and returns its manifest without a name.
func upload(c *Cluster, file []byte) cluster.Model {
	f, err := gguf.Parse(file)
	if err != nil {
		c.Fatalf("%v", err)
	}
	info, err := shard.ReadInfo(f)
	if err != nil {
		c.Fatalf("%v", err)
	}
	m := cluster.Model{Arch: info.Arch, Layers: info.Layers, Hidden: info.Hidden, Vocab: info.Vocab, Context: info.Context, Tied: info.Tied,
		KVBytes: info.KVBytes(shard.Span{First: 0, End: 1}, 64) / 64}
	err = shard.Cut(f, func(p shard.Part, data []byte) error {
		b := cluster.Blob{Name: p.Name, Digest: node.BlobDigest(data), Size: int64(len(data))}
		m.Blobs = append(m.Blobs, b)
		return c.Nodes[0].Admin().PutBlob(c.T.Context(), b.Digest, b.Size, bytes.NewReader(data))
	})
	if err != nil {
		c.Fatalf("%v", err)
	}
	m.Digest = m.ManifestDigest()
	return m
}

func clone(m cluster.Model) cluster.Model {
	m.Blobs = slices.Clone(m.Blobs)
	return m
}
