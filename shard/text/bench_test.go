package text_test

import (
	"strings"
	"testing"

	"lamina/shard/text"
)

// samples are texts of some 200 kB each.
func samples(b *testing.B) map[string]string {
	list := texts(b)
	repeat := func(parts ...string) string {
		s := strings.Join(parts, "\n")
		return strings.Repeat(s, 200_000/len(s)+1)
	}
	find := func(part string) string {
		for _, s := range list {
			if strings.Contains(s, part) {
				return s
			}
		}
		b.Fatalf("no text with %q", part)
		return ""
	}
	return map[string]string{
		"english": repeat(find("The licence"), find("quick brown"), find("sure they've")),
		"code":    repeat(find("def fib"), find("func main"), find("#include"), find("SELECT"), find("const f")),
		"chinese": repeat(find("你好"), find("繁體")),
		"mixed":   repeat(list...),
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, file := range []string{
		"SmolLM2-135M-Instruct.Q4_1.gguf", "qwen2.5-coder-0.5b-instruct-Q4_K_M.gguf", "gemma-3-270m-Q4_K_M.gguf",
	} {
		for name, s := range samples(b) {
			b.Run(file[:5]+"/"+name, func(b *testing.B) {
				tok := newTokenizer(b, model(b, file))
				b.SetBytes(int64(len(s)))
				b.ReportAllocs()
				for b.Loop() {
					tok.Encode(s, true)
				}
			})
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	for _, file := range []string{
		"SmolLM2-135M-Instruct.Q4_1.gguf", "qwen2.5-coder-0.5b-instruct-Q4_K_M.gguf", "gemma-3-270m-Q4_K_M.gguf",
	} {
		b.Run(file[:5], func(b *testing.B) {
			f := model(b, file)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := text.NewTokenizer(f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	tok := newTokenizer(b, model(b, "qwen2.5-coder-0.5b-instruct-Q4_K_M.gguf"))
	ids := tok.Encode(samples(b)["mixed"], true)
	b.SetBytes(int64(len(samples(b)["mixed"])))
	for b.Loop() {
		stream := tok.NewStream()
		for _, id := range ids {
			stream.Add(id)
		}
	}
}
