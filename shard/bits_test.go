package shard_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"lamina/kernels"
	"lamina/shard"
	"lamina/shard/tiny"
)

// mixed gives a model matrices of every type whose blocks fit.
func mixed(types ...kernels.Type) func(string) kernels.Type {
	return func(name string) kernels.Type {
		sum := 0
		for _, c := range []byte(strings.TrimPrefix(name, "blk.")) {
			sum += int(c)
		}
		return types[sum%len(types)]
	}
}

var small = []kernels.Type{kernels.F32, kernels.F16, kernels.BF16, kernels.Q8_0, kernels.Q4_0, kernels.Q4_1, kernels.Q5_0, kernels.Q5_1}

var models = map[string]func() []byte{
	"llama": func() []byte { return tiny.Llama(tiny.Config{Layers: 6}) },
	"llama-mixed": func() []byte {
		return tiny.Llama(tiny.Config{TypeOf: mixed(small...), Untied: true, RopeFreqs: true, Seed: 2})
	},
	"qwen2": func() []byte { return tiny.Qwen2(tiny.Config{TypeOf: mixed(kernels.Q5_0, kernels.Q4_1), Seed: 3}) },
	"qwen2-k": func() []byte {
		return tiny.Qwen2(tiny.Config{Hidden: 256, FFN: 256, Heads: 4, TypeOf: mixed(kernels.Q4_K, kernels.Q5_K, kernels.Q6_K), Seed: 4})
	},
	"llama-Q2_K":   whole(kernels.Q2_K, 256),
	"llama-Q3_K":   whole(kernels.Q3_K, 256),
	"llama-IQ4_XS": whole(kernels.IQ4_XS, 256),
	"llama-IQ4_NL": whole(kernels.IQ4_NL, 64),
	"llama-MXFP4":  whole(kernels.MXFP4, 64),
}

// whole makes a model with all matrices of one type.
func whole(typ kernels.Type, hidden int) func() []byte {
	return func() []byte {
		return tiny.Llama(tiny.Config{Layers: 3, Hidden: hidden, FFN: hidden, Heads: 4, Type: typ, Seed: uint64(typ)})
	}
}

// everyModel is all of them, and the goldens of every architecture with weights of 8 bits.
func everyModel(t testing.TB) map[string][]byte {
	out := map[string][]byte{}
	for name, make := range models {
		out[name] = make()
	}
	for name, data := range goldens(t) {
		out["golden "+name] = requantized(t, data, kernels.Q8_0)
	}
	out["golden gpt-oss MXFP4"] = withExperts(t, goldens(t)["gpt-oss"], kernels.MXFP4, asIs)
	return out
}

func eachModel(t *testing.T, f func(t *testing.T, p parts, vocab int)) {
	for name, data := range everyModel(t) {
		t.Run(name, func(t *testing.T) {
			p := cut(t, parse(t, data))
			info, err := shard.ReadInfo(parse(t, p["meta"]))
			if err != nil {
				t.Fatal(err)
			}
			f(t, p, info.Vocab)
		})
	}
}

const vocab = 299

// A model cut between any two layers gives the logits of the uncut one.
func TestEveryCut(t *testing.T) {
	eachModel(t, func(t *testing.T, p parts, vocab int) {
		opt := shard.Options{Workers: workers(t, 1)}
		tokens := randomTokens(1, 40, vocab)
		whole := p.open(t, opt)
		want := whole.alone(t, tokens, len(tokens))
		for at := 1; at < whole[0].Info().Layers; at++ {
			sameBits(t, fmt.Sprintf("cut at %d", at), p.open(t, opt, at).alone(t, tokens, len(tokens)), want)
		}
	})
}

// The bits of a sequence's logits depend neither on the number of stages, nor on the chunks of its
// prefill, nor on the sequences beside it, nor on threads, nor on how a step is sliced.
func TestStagesChunksCompanyThreads(t *testing.T) {
	eachModel(t, func(t *testing.T, p parts, vocab int) {
		one, two := workers(t, 1), workers(t, 2)
		tokens := randomTokens(2, 70, vocab)
		want := p.open(t, shard.Options{Workers: one}).alone(t, tokens, len(tokens))
		layers := p.open(t, shard.Options{Workers: one})[0].Info().Layers
		for _, stages := range []int{1, 2, 3, 5} {
			var at []int
			for i := 1; i < min(stages, layers); i++ {
				at = append(at, i*layers/min(stages, layers))
			}
			for i, chunk := range []int{1, 7, 32, 512} {
				opt := shard.Options{Workers: []*kernels.Workers{one, two}[i%2], MaxRows: []int{0, 5, 16, 33}[i]}
				line := p.open(t, opt, at...)
				what := fmt.Sprintf("%d stages, chunks of %d", stages, chunk)
				sameBits(t, what, line.alone(t, tokens, chunk), want)
				company(t, line, tokens, chunk, 1+3*stages, want)
			}
		}
	})
}

// company runs tokens beside others that start earlier and are of other lengths.
func company(t *testing.T, line pipe, tokens []int32, chunk, others int, want []float32) {
	t.Helper()
	vocab := line[0].Info().Vocab
	var flows []*flow
	for i := range others {
		flows = append(flows, line.flow(t, randomTokens(uint64(100+i), 5+11*i%40, vocab), 50))
	}
	line.step(t, flows, 3)
	flows = slices.Insert(flows, others/2, line.flow(t, tokens, len(tokens)))
	line.run(t, flows, chunk)
	sameBits(t, fmt.Sprintf("%d stages, chunks of %d, beside %d others", len(line), chunk, others), flows[others/2].logits, want)
	for _, f := range flows {
		f.free()
	}
}

// Logits of fewer rows are those of the same rows.
func TestLastLogitsOnly(t *testing.T) {
	p := cut(t, parse(t, models["llama"]()))
	s := p.open(t, shard.Options{Workers: workers(t, 1), MaxRows: 4})[0]
	tokens := randomTokens(3, 10, vocab)
	all := pipe{s}.alone(t, tokens, 10)
	for n := range 11 {
		a := newSeq(t, s, 10)
		b := newSeq(t, s, 10)
		out, err := s.Step([]shard.Rows{{Seq: a, Tokens: tokens, Logits: n}, {Seq: b, Tokens: tokens, Logits: 10 - n}})
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range [][]float32{all[(10-n)*vocab:], all[n*vocab:]} {
			if len(out[i]) != len(want) {
				t.Fatalf("%d logits, want %d", len(out[i]), len(want))
			}
			if len(want) > 0 {
				sameBits(t, fmt.Sprintf("last %d rows", n), out[i], want)
			}
		}
		a.Free()
		b.Free()
	}
}

// After Rewind a sequence goes on as if the forgotten rows had never been.
func TestRewind(t *testing.T) {
	eachModel(t, func(t *testing.T, p parts, vocab int) {
		line := p.open(t, shard.Options{Workers: workers(t, 1)}, 1)
		if line[0].Info().Encoder {
			t.Skip("an encoder's text comes whole")
		}
		tokens := randomTokens(5, 90, vocab)
		want := line.alone(t, tokens, 90)
		f := line.flow(t, slices.Concat(tokens[:70], randomTokens(6, 20, vocab)), 90)
		line.run(t, []*flow{f}, 90)
		for _, q := range f.seqs {
			q.Rewind(70)
			if q.Len() != 70 {
				t.Fatalf("%d positions after Rewind(70)", q.Len())
			}
			q.Rewind(80)
			if q.Len() != 70 {
				t.Fatalf("Rewind beyond the end changed the length to %d", q.Len())
			}
		}
		f.tokens, f.logits = tokens[70:], f.logits[:70*vocab]
		line.run(t, []*flow{f}, 7)
		sameBits(t, "after Rewind", f.logits, want)
	})
}

// The same on real models, for some cuts and chunks.
func TestRealModelBits(t *testing.T) {
	for file, text := range map[string]string{smol: "smollm2.golden", gemma: "gemma3.golden"} {
		t.Run(text, func(t *testing.T) {
			if file == gemma {
				quick(t)
			}
			realModelBits(t, cut(t, model(t, file)), readGolden(t, text).tokens)
		})
	}
}

func realModelBits(t *testing.T, p parts, tokens []int32) {
	one, two := workers(t, 1), workers(t, 2)
	want := p.open(t, shard.Options{Workers: one}).alone(t, tokens, len(tokens))
	for i, c := range []struct {
		at    []int
		chunk int
	}{{[]int{10}, 32}, {[]int{1, 17}, 7}, {[]int{6, 8, 12, 16}, 512}, {nil, 1}} {
		line := p.open(t, shard.Options{Workers: []*kernels.Workers{two, one}[i%2], MaxRows: 40}, c.at...)
		what := fmt.Sprintf("cut at %v, chunks of %d", c.at, c.chunk)
		flows := []*flow{line.flow(t, tokens[5:25], 64), line.flow(t, tokens, 64), line.flow(t, tokens[40:], 64)}
		line.run(t, flows, c.chunk)
		sameBits(t, what, flows[1].logits, want)
	}
}

// digest of the logits of the tiny models, for TestImplementations.
func digest(t *testing.T) string {
	h := sha256.New()
	all := everyModel(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		line := cut(t, parse(t, all[name])).open(t, shard.Options{Workers: workers(t, 1)})
		logits := line.alone(t, randomTokens(9, 80, line[0].Info().Vocab), 33)
		for _, x := range logits {
			binary.Write(h, binary.LittleEndian, x)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Every implementation of the kernels that this CPU has gives the same bits.
func TestImplementations(t *testing.T) {
	const key = "LAMINA_TEST_DIGEST"
	if os.Getenv(key) != "" {
		fmt.Println("digest", kernels.Impl(), digest(t))
		return
	}
	seen := map[string]string{}
	for _, impl := range []string{"generic", "avx2", "avx512"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestImplementations$", "-test.v")
		cmd.Env = append(os.Environ(), key+"=1", "KERNELS="+impl)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("KERNELS=%s: %v\n%s", impl, err, out)
		}
		for line := range strings.Lines(string(out)) {
			if f := strings.Fields(line); len(f) == 3 && f[0] == "digest" {
				seen[f[1]] = f[2]
			}
		}
	}
	if seen["generic"] == "" {
		t.Fatal("the generic kernels did not run")
	}
	for impl, d := range seen {
		t.Logf("%s: %s", impl, d)
		if d != seen["generic"] {
			t.Errorf("%s differs from generic", impl)
		}
	}
}
