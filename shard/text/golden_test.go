package text_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/text/unicode/norm"

	"lamina/shard/gguf"
	"lamina/shard/text"
)

func readJSON(t testing.TB, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

func texts(t testing.TB) []string {
	t.Helper()
	var list []string
	readJSON(t, "texts.json", &list)
	return list
}

// model opens a real model file, or skips the test.
func model(t testing.TB, file string) *gguf.File {
	t.Helper()
	dir := os.Getenv("LAMINA_MODELS")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Skip(err)
		}
		dir = filepath.Join(cache, "lamina", "models")
	}
	f, err := gguf.Open(filepath.Join(dir, file))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("%s is not there; `make models` brings it", file)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// with gives the metadata with one value changed.
func with(f *gguf.File, key string, v gguf.Value) *gguf.File {
	pairs := append(slices.Clone(f.KV.Pairs()), gguf.Pair{Key: key, Value: v})
	return &gguf.File{KV: gguf.NewKV(pairs)}
}

// TestGoldenModels compares the ids of real vocabularies with the reference's: 100 % or failure.
func TestGoldenModels(t *testing.T) {
	for _, name := range []string{
		"smollm.smollm", "smollm.gpt-2", "smollm.llama-bpe", "smollm.gpt-4o", "smollm.tekken", "qwen2.qwen2", "qwen2.llama-bpe", "qwen2.qwen35", "gemma", "gemma.prefix",
	} {
		t.Run(name, func(t *testing.T) {
			var g struct {
				File, Pre string
				IDs       [][2][]int32
			}
			readJSON(t, "golden."+name+".json", &g)
			meta := model(t, g.File)
			switch {
			case g.Pre != "":
				meta = with(meta, "tokenizer.ggml.pre", gguf.String(g.Pre))
			case name == "gemma.prefix":
				meta = with(meta, "tokenizer.ggml.add_space_prefix", gguf.Bool(true))
			}
			tok, err := text.NewTokenizer(meta)
			if err != nil {
				t.Fatal(err)
			}
			list := texts(t)
			if len(list) < 60 || len(list) != len(g.IDs) {
				t.Fatalf("%d texts, %d golden rows", len(list), len(g.IDs))
			}
			for i, s := range list {
				for mode, want := range g.IDs[i] {
					got := tok.Encode(s, mode == 0)
					if !slices.Equal(got, want) {
						t.Errorf("text %d %.60q, special %v:\n got %v\nwant %v", i, s, mode == 0, got, want)
					}
				}
			}
		})
	}
}

// TestRoundTrip checks that decoding undoes encoding, all at once and token by token.
func TestRoundTrip(t *testing.T) {
	for file, lost := range map[string]string{
		// The vocabulary of SmolLM2 lacks tokens for some bytes, which the reference drops too.
		"SmolLM2-135M-Instruct.Q4_1.gguf":         "\x04\x06\x13\x14\x16\x1d\xc0\xc1\xf1\xf2\xf5\xf6\xf7\xf8\xf9\xfa\xfb\xfc\xfd\xfe\xff",
		"qwen2.5-coder-0.5b-instruct-Q4_K_M.gguf": "",
		"gemma-3-270m-Q4_K_M.gguf":                "",
	} {
		t.Run(file, func(t *testing.T) {
			meta := model(t, file)
			tok, err := text.NewTokenizer(meta)
			if err != nil {
				t.Fatal(err)
			}
			pre, _ := meta.KV.String("tokenizer.ggml.pre")
			for _, s := range texts(t) {
				if containsAny(s, lost) {
					continue
				}
				want := s
				if pre == "qwen2" {
					want = norm.NFC.String(s)
				}
				ids := tok.Encode(s, false)
				if got := tok.Decode(ids, false); got != want {
					t.Errorf("%.60q came back as %.60q", s, got)
				}
				if got := tok.Decode(tok.Encode(s, true), true); got != want && pre != "qwen2" {
					t.Errorf("with special tokens, %.60q came back as %.60q", s, got)
				}
				stream, got := tok.NewStream(), ""
				for _, id := range ids {
					got += stream.Add(id)
				}
				if got += stream.Flush(); got != want {
					t.Errorf("%.60q came back token by token as %.60q", s, got)
				}
			}
		})
	}
}

// containsAny is true if s holds one of the bytes.
func containsAny(s, bytes string) bool {
	for i := range len(s) {
		for j := range len(bytes) {
			if s[i] == bytes[j] {
				return true
			}
		}
	}
	return false
}

// TestGoldenSentencePiece compares a small vocabulary, trained by Google's sentencepiece, with its ids.
func TestGoldenSentencePiece(t *testing.T) {
	var g struct {
		Tokens []string
		Scores []float32
		Kinds  []int32
		IDs    [][1][]int32
	}
	readJSON(t, "golden.sentencepiece.json", &g)
	tok, err := text.NewTokenizer(&gguf.File{KV: gguf.NewKV([]gguf.Pair{
		{Key: "tokenizer.ggml.model", Value: gguf.String("llama")},
		{Key: "tokenizer.ggml.tokens", Value: gguf.Strings(g.Tokens)},
		{Key: "tokenizer.ggml.scores", Value: gguf.Float32s(g.Scores)},
		{Key: "tokenizer.ggml.token_type", Value: gguf.Int32s(g.Kinds)},
	})})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range texts(t) {
		got := tok.Encode(s, false)
		if !slices.Equal(got, g.IDs[i][0]) {
			t.Errorf("text %d %.60q:\n got %v\nwant %v", i, s, got, g.IDs[i][0])
		}
		if back := tok.Decode(got, false); back != s {
			t.Errorf("%.60q came back as %.60q", s, back)
		}
	}
}

// TestGoldenWordPiece compares small trained vocabularies of BERT's kind, with and without capitals.
func TestGoldenWordPiece(t *testing.T) {
	for _, kind := range []string{"uncased", "cased"} {
		t.Run(kind, func(t *testing.T) {
			var g struct {
				Tokens []string
				Kinds  []int32
				IDs    [][1][]int32
			}
			readJSON(t, "golden.wordpiece."+kind+".json", &g)
			tok, err := text.NewTokenizer(&gguf.File{KV: gguf.NewKV([]gguf.Pair{
				{Key: "tokenizer.ggml.model", Value: gguf.String("bert")},
				{Key: "tokenizer.ggml.tokens", Value: gguf.Strings(g.Tokens)},
				{Key: "tokenizer.ggml.token_type", Value: gguf.Int32s(g.Kinds)},
			})})
			if err != nil {
				t.Fatal(err)
			}
			if bos, ok := tok.BOS(); !ok || !tok.AddBOS() || !tok.AddEOS() || g.Tokens[bos] != "[CLS]" || g.Tokens[tok.EOG()[0]] != "[SEP]" {
				t.Errorf("BOS %d, EOG %v", bos, tok.EOG())
			}
			for i, s := range texts(t) {
				if got := tok.Encode(s, false); !slices.Equal(got, g.IDs[i][0]) {
					t.Errorf("text %d %.60q:\n got %v\nwant %v", i, s, got, g.IDs[i][0])
				}
			}
			if got := tok.Decode(tok.Encode("the  the, the", false), false); got != "the the , the" {
				t.Errorf("decoded %q", got)
			}
		})
	}
}
