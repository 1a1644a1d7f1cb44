// Package tiny writes small language models with random weights, for tests: real GGUF files, with a
// byte-level BPE vocabulary and a ChatML template, small enough to make anew in every test.
//
//	data := tiny.Llama(tiny.Config{Layers: 4, Seed: 1})   // a GGUF file in memory
//	file, err := gguf.Parse(data)                         // or os.WriteFile, then gguf.Open
//
// The zero Config is a good one: 4 layers, hidden 64, 4 heads over 2 key-value heads of 16, Q8_0
// weights, about 200 KB. Equal Configs give equal bytes. The text that such a model generates is noise,
// but it is a function of the prompt like that of a real one, so that any difference in tokens, cache or
// arithmetic shows in it.
package tiny
