package node

import (
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"lamina/cluster/plan"
	"lamina/node/ingest"
	"lamina/shard"
	"lamina/shard/gguf"
	"lamina/shard/tiny"
)

// The planner may not import shard, so its numbers travel in the manifest. They are those that the loader takes memory by:
// the blobs of the span, and its KV cache in whole blocks.
func TestPlannerAndLoaderUseOneEstimate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	rapid.Check(t, func(rt *rapid.T) {
		c := tiny.Config{
			Layers: rapid.IntRange(1, 5).Draw(rt, "layers"), Context: rapid.IntRange(1, 9000).Draw(rt, "context"),
			Untied: rapid.Bool().Draw(rt, "untied"), Heads: 4, KVHeads: rapid.SampledFrom([]int{1, 2, 4}).Draw(rt, "kv heads"),
		}
		if err := os.WriteFile(path, tiny.Llama(c), 0o600); err != nil {
			t.Fatal(err)
		}
		res, err := ingest.Send(t.Context(), path, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		f, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		info, err := shard.ReadInfo(f)
		if err != nil {
			t.Fatal(err)
		}
		first := rapid.IntRange(0, c.Layers-1).Draw(rt, "first")
		span := shard.Span{First: first, End: rapid.IntRange(first+1, c.Layers).Draw(rt, "end")}
		weights, kv := plan.SpanBytes(res.Model, span.First, span.End)
		if want := sum(res.Model.SpanBlobs(span.First, span.End)); weights != want {
			rt.Fatalf("%v of %+v: the planner counts %d bytes of weights, the keeper takes %d", span, c, weights, want)
		}
		if n, want := len(res.Model.SpanBlobs(span.First, span.End)), len(shard.PartsOf(info, span, info.Tied)); n != want {
			rt.Fatalf("%v of %+v: %d blobs for %d parts", span, c, n, want)
		}
		if want := info.KVBytes(span, min(info.Context, 8192)); kv != want {
			rt.Fatalf("%v of %+v: the planner counts %d bytes of KV, the shard takes %d", span, c, kv, want)
		}
	})
}
