package jinja

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// longChat is a talk of n turns of about 400 bytes.
func longChat(n int) map[string]any {
	var messages []any
	for i := range n {
		role := "user"
		if i%2 == 1 {
			role = "assistant"
		}
		messages = append(messages, map[string]any{"role": role, "content": strings.Repeat(fmt.Sprintf("turn %d, ", i), 50)})
	}
	return map[string]any{
		"messages": messages, "tools": nil, "documents": nil, "add_generation_prompt": n%2 == 1,
		"bos_token": "<s>", "eos_token": "</s>",
	}
}

// TestFuelIsEnough: a chat of 1,001 turns and 400 kB needs less than half of the fuel with any template.
func TestFuelIsEnough(t *testing.T) {
	paths, err := filepath.Glob("testdata/templates/*.jinja")
	if err != nil || len(paths) < 15 {
		t.Fatal(len(paths), err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		tmpl, err := Parse(string(data))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tmpl.Render(longChat(1001), time.Time{}, Limits{Steps: DefaultLimits().Steps / 2}); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func BenchmarkRender(b *testing.B) {
	for _, name := range []string{"chatml", "llama31", "qwen3"} {
		data, err := os.ReadFile("testdata/templates/" + name + ".jinja")
		if err != nil {
			b.Fatal(err)
		}
		tmpl, err := Parse(string(data))
		if err != nil {
			b.Fatal(err)
		}
		for _, turns := range []int{1, 21} {
			b.Run(fmt.Sprintf("%s/%d", name, turns), func(b *testing.B) {
				vars := longChat(turns)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := tmpl.Render(vars, time.Time{}, Limits{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkParse(b *testing.B) {
	data, err := os.ReadFile("testdata/templates/qwen3.jinja")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := Parse(string(data)); err != nil {
			b.Fatal(err)
		}
	}
}
