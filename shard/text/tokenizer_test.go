package text_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"lamina/shard/gguf"
	"lamina/shard/text"
)

// The kinds of tokens in GGUF.
const (
	normal  = 1
	unknown = 2
	control = 3
	user    = 4
	unused  = 5
	byteTok = 6
)

// entry is a token of a vocabulary under construction.
type entry struct {
	text  string
	kind  int32
	score float32
}

// byteEntries are the 256 tokens of byte-level BPE, in the order of the bytes.
func byteEntries() []entry {
	var list []entry
	moved := rune(256)
	for b := range 256 {
		r := rune(b)
		if !(b >= 33 && b <= 126 || b >= 161 && b <= 172 || b >= 174) {
			r = moved
			moved++
		}
		list = append(list, entry{string(r), normal, 0})
	}
	return list
}

// hexEntries are the 256 byte tokens of SentencePiece.
func hexEntries() []entry {
	var list []entry
	const digits = "0123456789ABCDEF"
	for b := range 256 {
		list = append(list, entry{"<0x" + string(digits[b>>4]) + string(digits[b&15]) + ">", byteTok, 0})
	}
	return list
}

func meta(model string, entries []entry, more ...gguf.Pair) *gguf.File {
	var texts []string
	var kinds []int32
	var scores []float32
	for _, e := range entries {
		texts, kinds, scores = append(texts, e.text), append(kinds, e.kind), append(scores, e.score)
	}
	pairs := []gguf.Pair{
		{Key: "tokenizer.ggml.model", Value: gguf.String(model)},
		{Key: "tokenizer.ggml.tokens", Value: gguf.Strings(texts)},
		{Key: "tokenizer.ggml.token_type", Value: gguf.Int32s(kinds)},
		{Key: "tokenizer.ggml.scores", Value: gguf.Float32s(scores)},
		{Key: "tokenizer.ggml.merges", Value: gguf.Strings([]string{"h e", "l l", "he ll", "hell o"})},
	}
	return &gguf.File{KV: gguf.NewKV(append(pairs, more...))}
}

func newTokenizer(t testing.TB, f *gguf.File) *text.Tokenizer {
	t.Helper()
	tok, err := text.NewTokenizer(f)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func id(name string, n uint32) gguf.Pair {
	return gguf.Pair{Key: "tokenizer.ggml." + name + "_token_id", Value: gguf.Uint32(n)}
}

func pre(name string) gguf.Pair {
	return gguf.Pair{Key: "tokenizer.ggml.pre", Value: gguf.String(name)}
}

func flag(name string, b bool) gguf.Pair {
	return gguf.Pair{Key: "tokenizer.ggml." + name, Value: gguf.Bool(b)}
}

func TestRefusedVocabularies(t *testing.T) {
	good := []entry{{"a", normal, 0}, {"b", normal, 0}}
	for name, c := range map[string]struct {
		file *gguf.File
		want string
	}{
		"nothing":        {&gguf.File{}, "tokenizer.ggml.model"},
		"other model":    {meta("rwkv", good), `"rwkv" is not supported`},
		"no tokens":      {meta("gpt2", nil), "tokenizer.ggml.tokens is missing or empty"},
		"tokens numbers": {with(meta("gpt2", good), "tokenizer.ggml.tokens", gguf.Int32s([]int32{1, 2})), "not a list of strings"},
		"few types":      {with(meta("gpt2", good), "tokenizer.ggml.token_type", gguf.Int32s([]int32{1})), "1 entries for 2 tokens"},
		"text types":     {with(meta("gpt2", good), "tokenizer.ggml.token_type", gguf.Strings([]string{"1", "1"})), "not a list of integers"},
		"few scores":     {with(meta("llama", good), "tokenizer.ggml.scores", gguf.Float32s([]float32{1})), "1 entries for 2 tokens"},
		"text scores":    {with(meta("llama", good), "tokenizer.ggml.scores", gguf.Strings([]string{"1", "1"})), "not a list of numbers"},
		"merges numbers": {with(meta("gpt2", good), "tokenizer.ggml.merges", gguf.Int32s(nil)), "merges is not a list of strings"},
		"other pre":      {meta("gpt2", good, pre("frobnicate")), `"frobnicate" is not supported, only these are: `},
		"many tokens":    {with(meta("gpt2", good), "tokenizer.ggml.tokens", gguf.Strings(make([]string, 2<<20+1))), "at most 2097152"},
		"many merges":    {with(meta("gpt2", good), "tokenizer.ggml.merges", gguf.Strings(make([]string, 2<<20+1))), "at most 2097152"},
	} {
		_, err := text.NewTokenizer(c.file)
		if !errors.Is(err, text.ErrTokenizer) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
}

func TestMerges(t *testing.T) {
	entries := append(byteEntries(), entry{"he", normal, 0}, entry{"ll", normal, 0}, entry{"hell", normal, 0}, entry{"hello", normal, 0})
	tok := newTokenizer(t, meta("gpt2", entries, pre("gpt-2")))
	for s, want := range map[string][]int32{
		"":         {},
		"hello":    {259},
		"hellhe":   {258, 256},
		" hello":   {' ', 259}, // the space belongs to the word, but no merge joins it
		"lllhell":  {257, 'l', 258},
		"\xff\xc3": {0xff, 0xc3},
	} {
		if got := tok.Encode(s, true); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

func TestSpecialTokens(t *testing.T) {
	entries := append(byteEntries(),
		entry{"<s>", control, 0}, entry{"<s>>", control, 0}, entry{"<tool>", user, 0}, entry{"<unk>", unknown, 0},
		entry{"<never>", unused, 0}, entry{strings.Repeat("x", 300), control, 0}, entry{"<s>", control, 0})
	tok := newTokenizer(t, meta("gpt2", entries, pre("smollm")))
	const s, longer, tool, unk, never, long = 256, 257, 258, 259, 260, 261
	for _, c := range []struct {
		text  string
		parse bool
		want  []int32
	}{
		{"<s>", true, []int32{s}},
		{"<s>", false, []int32{'<', 's', '>'}},
		{"<s>><s>a", true, []int32{longer, s, 'a'}},
		{"<<s><tool", true, []int32{'<', s, '<', 't', 'o', 'o', 'l'}},
		{"<tool><tool>", false, []int32{tool, tool}},
		{"<unk>", true, []int32{unk}},
		{"<never>", true, []int32{'<', 'n', 'e', 'v', 'e', 'r', '>'}},
		{strings.Repeat("x", 300), true, slices.Repeat([]int32{'x'}, 300)},
	} {
		if got := tok.Encode(c.text, c.parse); !slices.Equal(got, c.want) {
			t.Errorf("%.20q special=%v: %v, want %v", c.text, c.parse, got, c.want)
		}
	}
	ids := []int32{s, 'a', tool, unk, never, long - 100000, 1 << 30, 'b'}
	if got := tok.Decode(ids, false); got != "a<tool>b" {
		t.Errorf("decoded to %q", got)
	}
	if got := tok.Decode(ids, true); got != "<s>a<tool><unk>b" {
		t.Errorf("decoded with special tokens to %q", got)
	}
	if got := string(tok.Piece(longer)); got != "<s>>" {
		t.Errorf("piece %q", got)
	}
	if tok.Piece(-1) != nil || tok.Piece(1<<30) != nil || len(tok.Piece(never)) != 0 {
		t.Error("tokens that do not exist have pieces")
	}
	if tok.Vocab() != len(entries) {
		t.Errorf("%d tokens", tok.Vocab())
	}
}

func TestAnswerEnds(t *testing.T) {
	entries := []entry{
		{"a", normal, 0}, {"<|im_end|>", user, 0}, {"<|end|>", control, 0}, {"</s>", normal, 0},
		{"<|endoftext|>", control, 0}, {"<stop>", control, 0}, {"<|return|>", control, 0}, {"<|call|>", control, 0}, {"</s>", user, 0},
	}
	for _, c := range []struct {
		n    int // tokens of entries
		more []gguf.Pair
		want []int32
	}{
		{4, nil, []int32{1, 2}},
		{5, []gguf.Pair{id("eos", 4)}, []int32{4, 1, 2}},
		{6, []gguf.Pair{id("eos", 5), id("eot", 4), id("eom", 0)}, []int32{5, 4, 0, 1, 2}},
		{7, []gguf.Pair{id("eos", 99)}, []int32{1, 2, 4, 6}},
		{9, []gguf.Pair{id("eos", 6)}, []int32{6, 1, 4, 7}}, // harmony: <|end|> only ends a message
	} {
		tok := newTokenizer(t, meta("gpt2", entries[:c.n], c.more...))
		if got := tok.EOG(); !slices.Equal(got, c.want) {
			t.Errorf("%d tokens, %d values: %v, want %v", c.n, len(c.more), got, c.want)
		}
		for i := range int32(9) {
			if tok.IsEOG(i) != slices.Contains(c.want, i) {
				t.Errorf("%d tokens: IsEOG(%d) is %v", c.n, i, tok.IsEOG(i))
			}
		}
		if got := tok.Decode([]int32{1}, false); got != "" {
			t.Errorf("<|im_end|> is visible: %q", got)
		}
	}
}

func TestBOS(t *testing.T) {
	entries := []entry{{"a", normal, 0}, {"<b>", control, 0}, {"<c>", control, 0}}
	for name, c := range map[string]struct {
		file *gguf.File
		bos  int32 // -1: none
		add  bool
	}{
		"gpt2":              {meta("gpt2", entries), -1, false},
		"gpt2 with":         {meta("gpt2", entries, id("bos", 2)), 2, false},
		"gpt2 adds":         {meta("gpt2", entries, id("bos", 2), flag("add_bos_token", true)), 2, true},
		"nothing to add":    {meta("gpt2", entries, flag("add_bos_token", true)), -1, false},
		"out of range":      {meta("gpt2", entries, id("bos", 3), flag("add_bos_token", true)), -1, false},
		"llama 3":           {meta("gpt2", entries, pre("llama-bpe"), id("bos", 1)), 1, true},
		"llama 3 without":   {meta("gpt2", entries, pre("llama-bpe"), id("bos", 1), flag("add_bos_token", false)), 1, false},
		"sentencepiece":     {meta("llama", entries), 1, true},
		"sentencepiece off": {meta("llama", entries, flag("add_bos_token", false)), 1, false},
	} {
		tok := newTokenizer(t, c.file)
		bos, ok := tok.BOS()
		if ok != (c.bos >= 0) || (ok && bos != c.bos) || tok.AddBOS() != c.add {
			t.Errorf("%s: BOS %d %v, added %v", name, bos, ok, tok.AddBOS())
		}
	}
}

func sentencePiece(more ...gguf.Pair) *gguf.File {
	entries := append([]entry{{"<unk>", unknown, 0}, {"<s>", control, 0}, {"</s>", control, 0}}, hexEntries()...) // bytes from 3 on
	return meta("llama", append(entries,
		entry{"▁", normal, -4}, entry{"a", normal, -5}, entry{"b", normal, -6}, entry{"ab", normal, -1},
		entry{"▁a", normal, -2}, entry{"<x>", user, 0}, entry{"b▁", normal, -9}, entry{"▁▁", normal, float32(math.NaN())}), more...)
}

func TestSentencePiece(t *testing.T) {
	const space, a, b, ab, spaceA, x, bSpace, spaces = 259, 260, 261, 262, 263, 264, 265, 266
	raw := func(c byte) int32 { return 3 + int32(c) }
	plain := newTokenizer(t, sentencePiece(flag("add_space_prefix", false)))
	prefix := newTokenizer(t, sentencePiece())
	for _, c := range []struct {
		tok  *text.Tokenizer
		text string
		want []int32
	}{
		{plain, "ab", []int32{ab}},
		{plain, " ab", []int32{space, ab}}, // ab has the better score
		{plain, " a", []int32{spaceA}},
		{plain, "b a", []int32{b, spaceA}}, // before b▁, by score
		{plain, "b b", []int32{bSpace, b}}, // across the space
		{plain, "   ", []int32{spaces, space}},
		{plain, "é\n", []int32{raw(0xc3), raw(0xa9), raw('\n')}},
		{plain, "\xff", []int32{raw(0xff)}},
		{prefix, "ab", []int32{space, ab}},
		{prefix, "a", []int32{spaceA}},
		{prefix, "", []int32{}},
		{prefix, "<s>a<x>a a", []int32{1, spaceA, x, spaceA, spaceA}},
	} {
		if got := c.tok.Encode(c.text, true); !slices.Equal(got, c.want) {
			t.Errorf("%q: %v, want %v", c.text, got, c.want)
		}
	}
	for _, s := range []string{"a b  ab\n é", " a", "  ", "<s>"} {
		for _, tok := range []*text.Tokenizer{plain, prefix} {
			if got := tok.Decode(tok.Encode(s, false), false); got != s {
				t.Errorf("%q came back as %q", s, got)
			}
		}
	}
}

// TestNoBytes: a SentencePiece vocabulary without byte tokens gives the unknown token, one without that nothing.
func TestNoBytes(t *testing.T) {
	entries := []entry{{"<unk>", unknown, 0}, {"a", normal, -1}}
	tok := newTokenizer(t, meta("llama", entries, flag("add_space_prefix", false)))
	if got := tok.Encode("aéa", true); !slices.Equal(got, []int32{1, 0, 1}) {
		t.Errorf("%v", got)
	}
	tok = newTokenizer(t, meta("llama", entries, flag("add_space_prefix", false), id("unknown", 77)))
	if got := tok.Encode("aéa", true); !slices.Equal(got, []int32{1, 1}) {
		t.Errorf("without an unknown token: %v", got)
	}
}

func TestStream(t *testing.T) {
	entries := append(byteEntries(), entry{"<|im_end|>", control, 0}, entry{"<tool>", user, 0})
	tok := newTokenizer(t, meta("gpt2", entries, pre("gpt-2")))
	for _, c := range []struct {
		bytes string
		want  []string // what each byte settles, then the flush
	}{
		{"a", []string{"a", ""}},
		{"é", []string{"", "é", ""}},
		{"😀!", []string{"", "", "", "😀", "!", ""}},
		{"\xf0\x9f\x98", []string{"", "", "", "\ufffd"}},
		{"\xf0\x9fa", []string{"", "", "\ufffda", ""}},
		{"\xff\x80", []string{"\ufffd", "\ufffd", ""}},
		{"\xc3\xc3\xa9", []string{"", "\ufffd", "é", ""}},
		{"\xed\xa0\x80", []string{"", "\ufffd\ufffd", "\ufffd", ""}}, // a surrogate is no character
		{"\xe2\x82", []string{"", "", "\ufffd"}},
	} {
		s := tok.NewStream()
		var got []string
		for _, b := range []byte(c.bytes) {
			got = append(got, s.Add(int32(b)))
		}
		if got = append(got, s.Flush()); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.bytes, got, c.want)
		}
	}
	s := tok.NewStream()
	got := s.Add(0xc3) + s.Add(256) + s.Add(0xa9) + s.Add(257) + s.Add(-5) + s.Add(999) + s.Flush()
	if got != "é<tool>" {
		t.Errorf("special tokens in a stream: %q", got)
	}
}

// TestStreamEqualsDecode: however the bytes of a text fall into tokens, and whatever bytes they are, the
// pieces of a stream are valid UTF-8 and together what Decode gives.
func TestStreamEqualsDecode(t *testing.T) {
	tok := newTokenizer(t, meta("gpt2", byteEntries(), pre("gpt-2")))
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.OneOf(rapid.SliceOf(rapid.Byte()), rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) })).Draw(t, "bytes")
		stream, got := tok.NewStream(), ""
		var ids []int32
		for _, b := range data {
			ids = append(ids, int32(b))
			piece := stream.Add(int32(b))
			if !utf8.ValidString(piece) {
				t.Fatalf("%q is no UTF-8", piece)
			}
			got += piece
		}
		got += stream.Flush()
		if want := tok.Decode(ids, true); got != want {
			t.Fatalf("stream %q, Decode %q", got, want)
		}
		if utf8.Valid(data) && got != string(data) {
			t.Fatalf("%q became %q", data, got)
		}
	})
}

// TestLongWords checks that words of any length are encoded in bounded time and without loss.
func TestLongWords(t *testing.T) {
	bpe := newTokenizer(t, meta("gpt2", append(byteEntries(), entry{"he", normal, 0}, entry{"ll", normal, 0}), pre("qwen2")))
	spm := newTokenizer(t, sentencePiece())
	for name, s := range map[string]string{
		"letters": strings.Repeat("hell", 70_000),
		"spaces":  strings.Repeat(" ", 280_000),
		"han":     strings.Repeat("漢字", 50_000),
		"unknown": strings.Repeat("\ufffd\u0301", 60_000),
		"quotes":  strings.Repeat("'", 280_000),
		"ab":      strings.Repeat("ab ", 100_000),
	} {
		for _, tok := range []*text.Tokenizer{bpe, spm} {
			if got := tok.Decode(tok.Encode(s, true), true); got != s {
				t.Errorf("%s did not come back", name)
			}
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	tok := newTokenizer(t, meta("gpt2", append(byteEntries(), entry{"he", normal, 0}, entry{"ll", normal, 0}, entry{"hell", normal, 0}), pre("gpt-2")))
	const s = "hell he hello heh ll <x> 123 'll"
	want := newTokenizer(t, meta("gpt2", append(byteEntries(), entry{"he", normal, 0}, entry{"ll", normal, 0}, entry{"hell", normal, 0}), pre("gpt-2"))).Encode(s, true)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if got := tok.Encode(s, true); !slices.Equal(got, want) {
					t.Errorf("%v, want %v", got, want)
				}
			}
		})
	}
	wg.Wait()
}
