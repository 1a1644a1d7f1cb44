package tiny

import "lamina/shard/gguf"

// Template is the chat template of the models: ChatML.
const Template = `{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`

// The special tokens, at the end of the vocabulary.
const (
	EndOfText = "<|endoftext|>"
	Start     = "<|im_start|>"
	End       = "<|im_end|>" // ends an answer
)

// merged lists the pairs that the tokenizer joins, in order of rank; Ġ stands for a leading space.
var merged = [...][2]string{
	{"Ġ", "t"}, {"h", "e"}, {"i", "n"}, {"Ġ", "a"}, {"r", "e"}, {"o", "n"}, {"Ġt", "he"}, {"e", "r"},
	{"Ġ", "s"}, {"a", "t"}, {"Ġ", "w"}, {"Ġ", "o"}, {"e", "n"}, {"Ġ", "c"}, {"i", "t"}, {"i", "s"},
	{"a", "n"}, {"o", "r"}, {"e", "s"}, {"Ġ", "b"}, {"e", "d"}, {"Ġ", "f"}, {"in", "g"}, {"Ġ", "p"},
	{"o", "u"}, {"Ġa", "n"}, {"a", "l"}, {"a", "r"}, {"Ġt", "o"}, {"Ġ", "m"}, {"Ġo", "f"}, {"Ġ", "in"},
	{"Ġ", "d"}, {"Ġ", "h"}, {"Ġan", "d"}, {"h", "i"}, {"l", "l"}, {"he", "ll"}, {"hell", "o"}, {"Ċ", "Ċ"},
}

// Vocabulary returns the 299 tokens: every byte in GPT-2's printable form, the merged pairs, the three
// special tokens.
func Vocabulary() []string {
	var words []string
	for b := range 256 {
		words = append(words, string(printable(b)))
	}
	for _, m := range merged {
		words = append(words, m[0]+m[1])
	}
	return append(words, EndOfText, Start, End)
}

// printable is GPT-2's mapping of bytes to runes: printable Latin-1 stands for itself, the rest is
// moved past U+0100 in order (so 0x20 becomes Ġ and 0x0a becomes Ċ).
func printable(b int) rune {
	plain := func(b int) bool { return b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae }
	if plain(b) {
		return rune(b)
	}
	r := rune(256)
	for i := range b {
		if !plain(i) {
			r++
		}
	}
	return r
}

func tokenizer(arch string, words []string) []gguf.Pair {
	types, n := make([]int32, len(words)), len(words)
	for i := range types {
		types[i] = 1 // normal
	}
	for i := n - 3; i < n; i++ {
		types[i] = 3 // control
	}
	var merges []string
	for _, m := range merged {
		merges = append(merges, m[0]+" "+m[1])
	}
	pre := map[string]string{"llama": "smollm", "qwen2": "qwen2"}[arch]
	return []gguf.Pair{
		{Key: "tokenizer.ggml.model", Value: gguf.String("gpt2")},
		{Key: "tokenizer.ggml.pre", Value: gguf.String(pre)},
		{Key: "tokenizer.ggml.tokens", Value: gguf.Strings(words)},
		{Key: "tokenizer.ggml.token_type", Value: gguf.Int32s(types)},
		{Key: "tokenizer.ggml.merges", Value: gguf.Strings(merges)},
		{Key: "tokenizer.ggml.bos_token_id", Value: gguf.Uint32(uint32(n - 3))},
		{Key: "tokenizer.ggml.eos_token_id", Value: gguf.Uint32(uint32(n - 1))},
		{Key: "tokenizer.ggml.add_bos_token", Value: gguf.Bool(false)},
		{Key: "tokenizer.chat_template", Value: gguf.String(Template)},
	}
}
