package text_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"lamina/shard/gguf"
	"lamina/shard/text"
)

// FuzzEncode runs texts through small vocabularies of all kinds: nothing is lost, decoding gives the
// text back, and pieces are those of tokens that exist.
func FuzzEncode(f *testing.F) {
	for _, s := range []string{"hello hell", " a b\n", "é😀\xff", "<s> <tool>'s 123", "ab  ab"} {
		f.Add(s)
	}
	entries := append(byteEntries(), entry{"he", normal, 0}, entry{"ll", normal, 0}, entry{"hell", normal, 0},
		entry{"hello", normal, 0}, entry{"<s>", control, 0}, entry{"<tool>", user, 0})
	var toks []*text.Tokenizer
	for _, name := range []string{"gpt-2", "smollm", "llama-bpe", "stablelm2", "gpt-4o", "tekken", "qwen35"} {
		toks = append(toks, newTokenizer(f, meta("gpt2", entries, pre(name))))
	}
	toks = append(toks, newTokenizer(f, sentencePiece()), newTokenizer(f, meta("bert", append(entries, entry{"▁he", normal, 0}))))
	f.Fuzz(func(t *testing.T, s string) {
		for i, tok := range toks {
			for _, special := range []bool{false, true} {
				ids := tok.Encode(s, special)
				var b []byte
				for _, id := range ids {
					if id < 0 || int(id) >= tok.Vocab() {
						t.Fatalf("tokenizer %d: token %d", i, id)
					}
					b = append(b, tok.Piece(id)...)
				}
				got := tok.Decode(ids, true)
				if !utf8.ValidString(got) {
					t.Fatalf("tokenizer %d: %q is no UTF-8", i, got)
				}
				if i < 6 && string(b) != s { // qwen35 normalizes, sentencepiece adds spaces
					t.Fatalf("tokenizer %d: %q became %q", i, s, b)
				}
				if i == 7 && !special && utf8.ValidString(s) && !strings.Contains(s, "▁") && !strings.Contains(s, "<x>") && got != s {
					t.Fatalf("sentencepiece: %q became %q", s, got)
				}
			}
		}
	})
}

// FuzzVocabulary builds tokenizers of hostile vocabularies and uses them: an error or ids that exist.
func FuzzVocabulary(f *testing.F) {
	f.Add("a\x00b\x00ab\x00<0x41>\x00▁", "a b\x00ab a", []byte{1, 3, 4, 6, 1}, "ab <0x41>a▁ b", true)
	f.Add("Ġ\x00a\x00Ġa\x00a", "Ġ a\x00 \x00a\x00a  a", []byte{1, 1, 1, 2}, " a aa", false)
	f.Fuzz(func(t *testing.T, tokens, merges string, kinds []byte, s string, sentencepiece bool) {
		list := strings.Split(tokens, "\x00")
		types, scores := make([]int32, len(list)), make([]float32, len(list))
		for i := range list {
			if len(kinds) > 0 {
				k := kinds[i%len(kinds)]
				types[i], scores[i] = int32(k%8), float32(int8(k))/float32(k%3)
			}
		}
		model := "gpt2"
		if sentencepiece {
			model = "llama"
		}
		names := []string{"gpt-2", "smollm", "llama-bpe", "qwen2", "qwen35"}
		tok, err := text.NewTokenizer(&gguf.File{KV: gguf.NewKV([]gguf.Pair{
			{Key: "tokenizer.ggml.model", Value: gguf.String(model)},
			{Key: "tokenizer.ggml.tokens", Value: gguf.Strings(list)},
			{Key: "tokenizer.ggml.token_type", Value: gguf.Int32s(types)},
			{Key: "tokenizer.ggml.scores", Value: gguf.Float32s(scores)},
			{Key: "tokenizer.ggml.merges", Value: gguf.Strings(strings.Split(merges, "\x00"))},
			pre(names[len(s)%len(names)]),
		})})
		if err != nil {
			if !errors.Is(err, text.ErrTokenizer) {
				t.Fatal(err)
			}
			return
		}
		for _, special := range []bool{false, true} {
			stream := tok.NewStream()
			ids := tok.Encode(s, special)
			for _, id := range ids {
				if id < 0 || int(id) >= tok.Vocab() {
					t.Fatalf("token %d of %d", id, tok.Vocab())
				}
				if !utf8.ValidString(stream.Add(id)) {
					t.Fatal("a stream gave no UTF-8")
				}
			}
			if !utf8.ValidString(tok.Decode(ids, special)) {
				t.Fatal("Decode gave no UTF-8")
			}
		}
	})
}
