package shard_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"lamina/shard"
	"lamina/shard/text"
)

// The embeddings of a real encoder, from text to vector, agree with the float32 reference (golden_embed.py), and are no
// farther from it than those of llama.cpp.
func TestGoldenEmbeddings(t *testing.T) {
	quick(t)
	var g struct {
		Texts      []string
		Tokens     [][]int32
		Embeddings [][]float32
	}
	data, err := os.ReadFile(filepath.Join("testdata", "nomic-embed.json"))
	if err == nil {
		err = json.Unmarshal(data, &g)
	}
	if err != nil {
		t.Fatal(err)
	}
	llama := []float64{5.24e-7, 3.56e-7, 1.16e-7} // distances of llama.cpp
	f := model(t, nomic)
	tok, err := text.NewTokenizer(f)
	if err != nil {
		t.Fatal(err)
	}
	p := cut(t, f)
	line, split := p.open(t, shard.Options{Workers: workers(t, 0)}), p.open(t, shard.Options{Workers: workers(t, 2)}, 5)
	bos, _ := tok.BOS()
	for i, s := range g.Texts {
		tokens := append([]int32{bos}, tok.Encode(s, false)...)
		if tokens = append(tokens, tok.EOG()[0]); !slices.Equal(tokens, g.Tokens[i]) {
			t.Fatalf("%.40q: tokens %v, want %v", s, tokens, g.Tokens[i])
		}
		got := line.alone(t, tokens, len(tokens))
		far := 1 - cosine(got, g.Embeddings[i])
		rel, _ := distance(got, g.Embeddings[i])
		t.Logf("%.40q: 1 - cosine %.2g, relative square error %.2g", s, far, rel)
		if !(far <= llama[i]) || !(rel <= 1e-5) {
			t.Errorf("%.40q: 1 - cosine %.2g, at most %.2g", s, far, llama[i])
		}
		sameBits(t, "cut in two", split.alone(t, tokens, len(tokens)), got)
	}
}

func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i, x := range a {
		y := b[i]
		ab, aa, bb = ab+float64(x)*float64(y), aa+float64(x)*float64(x), bb+float64(y)*float64(y)
	}
	return ab / math.Sqrt(aa*bb)
}
