package sample

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// The vectors come with the authors' Random123 library (kat_vectors, philox4x32 10).
func TestPhiloxKnownAnswers(t *testing.T) {
	for _, v := range []struct {
		ctr  [4]uint32
		key  [2]uint32
		want [4]uint32
	}{
		{[4]uint32{}, [2]uint32{}, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{[4]uint32{^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0)}, [2]uint32{^uint32(0), ^uint32(0)},
			[4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, [2]uint32{0xa4093822, 0x299f31d0},
			[4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	} {
		if got := philox(v.ctr, v.key); got != v.want {
			t.Errorf("philox(%08x, %08x) = %08x, want %08x", v.ctr, v.key, got, v.want)
		}
	}
}

func TestGreedyTakesTheFirstOfTheLargest(t *testing.T) {
	got := one(t, Greedy(), nil, []float32{1, 5, -2, 5, 0}, 7)
	if got.ID != 1 || got.Logprob != 0 || got.Top != nil {
		t.Errorf("got %+v, want token 1 and nothing else", got)
	}
}

func TestBiasAndPenalties(t *testing.T) {
	logits := []float32{2, 1, -1, 0.5}
	for _, c := range []struct {
		name    string
		change  func(*Params)
		history []int32
		want    []float32
	}{
		{"off", func(p *Params) {}, []int32{0, 0, 2}, []float32{2, 1, -1, 0.5}},
		{"bias", func(p *Params) { p.LogitBias = map[int32]float32{1: 3, 9: 5} }, nil, []float32{2, 4, -1, 0.5}},
		{"repetition", func(p *Params) { p.RepeatPenalty = 2 }, []int32{0, 0, 2}, []float32{1, 1, -2, 0.5}},
		{"presence", func(p *Params) { p.PresencePenalty = 0.25 }, []int32{0, 0, 2, -4, 99}, []float32{1.75, 1, -1.25, 0.5}},
		{"frequency", func(p *Params) { p.FrequencyPenalty = 0.5 }, []int32{0, 0, 2}, []float32{1, 1, -1.5, 0.5}},
		{"window", func(p *Params) { p.FrequencyPenalty = 0.5; p.RepeatLastN = 2 }, []int32{0, 0, 2}, []float32{1.5, 1, -1.5, 0.5}},
		{"no window", func(p *Params) { p.FrequencyPenalty = 0.5; p.RepeatLastN = 0 }, []int32{0, 0, 2}, []float32{2, 1, -1, 0.5}},
		{"bias comes first", func(p *Params) { p.LogitBias = map[int32]float32{2: 3}; p.RepeatPenalty = 2 }, []int32{2}, []float32{2, 1, 1, 0.5}},
	} {
		p := Greedy()
		c.change(&p)
		got := slices.Clone(logits)
		New(p, c.history).adjust(new(Scratch), got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: logits become %v, want %v", c.name, got, c.want)
		}
	}
}

// The window must hold exactly the last tokens, whatever came through the history and whatever was sampled.
func TestWindowCountsTheLastTokens(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, last := range []int{-1, 0, 1, 3, 64} {
		p := Greedy()
		p.FrequencyPenalty, p.RepeatLastN = 1, last
		var all []int32
		for range 40 {
			all = append(all, rng.Int32N(5))
		}
		w := newWindow(p, all)
		for range 200 {
			id := rng.Int32N(5)
			all = append(all, id)
			w.add(id)
			want := map[int32]int32{}
			for _, x := range all[len(all)-p.Window(len(all)):] {
				want[x]++
			}
			for x := range int32(5) {
				if w.counts[x] != want[x] {
					t.Fatalf("last %d after %d tokens: %d of token %d, want %d", last, len(all), w.counts[x], x, want[x])
				}
			}
		}
	}
}

// reference does the truncation with full sorts in float64.
func reference(logits []float32, p Params) map[int32]float64 {
	type cand struct {
		id int32
		l  float64
	}
	var c []cand
	for i, l := range logits {
		c = append(c, cand{int32(i), float64(l)})
	}
	slices.SortStableFunc(c, func(a, b cand) int {
		if a.l > b.l {
			return -1
		}
		if a.l < b.l {
			return 1
		}
		return int(a.id - b.id)
	})
	if p.TopK > 0 {
		c = c[:min(p.TopK, len(c))]
	}
	var sum float64
	for _, x := range c {
		sum += math.Exp(x.l - c[0].l)
	}
	keep, cum := len(c), 0.0
	for i, x := range c {
		if cum += math.Exp(x.l-c[0].l) / sum; cum >= float64(p.TopP) {
			keep = i + 1
			break
		}
	}
	if p.TopP < 1 {
		c = c[:keep]
	}
	out, total := map[int32]float64{}, 0.0
	for _, x := range c {
		if math.Exp(x.l-c[0].l) >= float64(p.MinP) {
			out[x.id] = math.Exp((x.l - c[0].l) / float64(p.Temperature))
			total += out[x.id]
		}
	}
	for id := range out {
		out[id] /= total
	}
	return out
}

func TestDistributionAgreesWithTheDefinition(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 60 {
		p := Greedy()
		p.Temperature = []float32{0.3, 1, 2}[rng.IntN(3)]
		p.TopK = []int{0, 1, 5, 30, 1000}[rng.IntN(5)]
		p.TopP = []float32{0, 0.3, 0.9, 1}[rng.IntN(4)]
		p.MinP = []float32{0, 0.02, 0.4, 1}[rng.IntN(4)]
		p.Seed = rng.Uint64()
		logits := make([]float32, 50)
		for i := range logits {
			logits[i] = float32(rng.NormFloat64() * 2)
			if i > 0 && rng.IntN(6) == 0 {
				logits[i] = logits[i-1] // equal logits are the hard case of every cut
			}
		}
		checkDistribution(t, p, logits)
	}
}

// checkDistribution draws at many positions and compares by Pearson's chi squared. With the seeds fixed the result is too; the bound
// (mean + 6 standard deviations) is far out of what a right sampler gives for any seed.
func checkDistribution(t *testing.T, p Params, logits []float32) {
	t.Helper()
	const draws = 4000
	want := reference(logits, p)
	s, sc, seen := New(p, nil), new(Scratch), map[int32]int{}
	for pos := range draws {
		tok, err := s.Sample(sc, slices.Clone(logits), pos)
		if err != nil {
			t.Fatal(err)
		}
		seen[tok.ID]++
	}
	var chi, cells, rest float64
	left := draws
	for id, n := range seen {
		e := want[id] * draws
		if e == 0 {
			t.Fatalf("%+v: token %d was drawn %d times and must not be", p, id, n)
		}
		if e < 5 {
			continue
		}
		chi += (float64(n) - e) * (float64(n) - e) / e
		cells++
		rest += e
		left -= n
	}
	if e := draws - rest; e >= 5 {
		chi += (float64(left) - e) * (float64(left) - e) / e
		cells++
	}
	if bound := cells + 6*math.Sqrt(2*cells); chi > bound {
		t.Errorf("%+v: chi squared %.1f over %v cells, bound %.1f", p, chi, cells, bound)
	}
}

func TestSeedAndPositionAloneDecide(t *testing.T) {
	logits := make([]float32, 1000) // flat: each draw shows the random number
	p := Greedy()
	p.Temperature, p.Seed = 1, 42
	draw := func(p Params, pos int) int32 { return one(t, p, nil, logits, pos).ID }
	s, sc := New(p, nil), new(Scratch)
	var inOrder []int32
	for pos := range 50 {
		tok, err := s.Sample(sc, slices.Clone(logits), pos)
		if err != nil {
			t.Fatal(err)
		}
		inOrder = append(inOrder, tok.ID)
	}
	for pos := 49; pos >= 0; pos-- {
		if got := draw(p, pos); got != inOrder[pos] {
			t.Errorf("position %d alone gives %d, in order %d", pos, got, inOrder[pos])
		}
	}
	slices.Sort(inOrder)
	if n := len(slices.Compact(inOrder)); n < 40 {
		t.Errorf("only %d different tokens in 50 draws from 1000 equal ones", n)
	}
	p.Seed = 43
	if draw(p, 0) == draw(Params{Temperature: 1, TopP: 1, RepeatPenalty: 1, Seed: 42}, 0) && draw(p, 1) == draw(Params{Temperature: 1, TopP: 1, RepeatPenalty: 1, Seed: 42}, 1) {
		t.Error("another seed gives the same tokens")
	}
}

func TestLogprobsAreTheModelsOwn(t *testing.T) {
	logits := []float32{1, 3, 2, 3, -50}
	p := Greedy()
	p.WantLogprobs, p.Logprobs = true, 3
	p.LogitBias = map[int32]float32{0: 10}
	p.RepeatPenalty = 3
	got := one(t, p, []int32{1, 3, 3}, logits, 0)
	var sum float64
	for _, l := range logits {
		sum += math.Exp(float64(l))
	}
	near := func(what string, got float32, logit float64) {
		if want := logit - math.Log(sum); math.Abs(float64(got)-want) > 1e-5 {
			t.Errorf("%s: log probability %v, want %v", what, got, want)
		}
	}
	if got.ID != 0 {
		t.Fatalf("token %d, want the biased 0", got.ID)
	}
	near("chosen", got.Logprob, 1)
	if len(got.Top) != 3 || got.Top[0].ID != 1 || got.Top[1].ID != 3 || got.Top[2].ID != 2 {
		t.Fatalf("alternatives %v, want 1, 3, 2", got.Top)
	}
	near("first alternative", got.Top[0].Logprob, 3)
	near("third alternative", got.Top[2].Logprob, 2)

	score, err := Score(new(Scratch), logits, 4, 20)
	if err != nil || score.ID != 4 || len(score.Top) != 5 {
		t.Fatalf("Score: %+v, %v", score, err)
	}
	near("scored", score.Logprob, -50)
	if _, err := Score(new(Scratch), logits, 5, 0); !errors.Is(err, ErrParams) {
		t.Errorf("Score of a token outside the vocabulary: %v", err)
	}
}

func TestLogitsThatAreNoDistribution(t *testing.T) {
	inf := float32(math.Inf(1))
	nan := float32(math.NaN())
	for at := range 9 {
		for _, bad := range []float32{nan, inf, -inf, -nan} {
			logits := make([]float32, 9)
			logits[at] = bad
			if _, err := New(Default(), nil).Sample(new(Scratch), logits, 0); !errors.Is(err, ErrLogits) {
				t.Errorf("%v at %d: error %v, want ErrLogits", bad, at, err)
			}
			if _, err := Score(new(Scratch), logits, 0, 1); !errors.Is(err, ErrLogits) {
				t.Errorf("Score, %v at %d: error %v, want ErrLogits", bad, at, err)
			}
		}
	}
	if _, err := New(Default(), nil).Sample(new(Scratch), nil, 0); !errors.Is(err, ErrLogits) {
		t.Errorf("no logits: %v", err)
	}
}

func TestValidateNamesTheField(t *testing.T) {
	for _, p := range []Params{Default(), Greedy(), {RepeatPenalty: 1}} {
		if err := p.Validate(); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
	nan := float32(math.NaN())
	many := map[int32]float32{}
	for i := range int32(MaxLogitBias + 1) {
		many[i] = 1
	}
	for field, change := range map[string]func(*Params){
		"temperature":       func(p *Params) { p.Temperature = -0.1 },
		"top_p":             func(p *Params) { p.TopP = 1.5 },
		"min_p":             func(p *Params) { p.MinP = nan },
		"repeat_penalty":    func(p *Params) { p.RepeatPenalty = 0 },
		"presence_penalty":  func(p *Params) { p.PresencePenalty = 101 },
		"frequency_penalty": func(p *Params) { p.FrequencyPenalty = float32(math.Inf(-1)) },
		"top_k":             func(p *Params) { p.TopK = -1 },
		"repeat_last_n":     func(p *Params) { p.RepeatLastN = -2 },
		"logprobs":          func(p *Params) { p.Logprobs = 21 },
		"logit_bias of":     func(p *Params) { p.LogitBias = map[int32]float32{3: nan} },
		"token -1":          func(p *Params) { p.LogitBias = map[int32]float32{-1: 0} },
		"logit_bias":        func(p *Params) { p.LogitBias = many },
	} {
		p := Default()
		change(&p)
		if err := p.Validate(); !errors.Is(err, ErrParams) || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: error %v does not name it", field, err)
		}
	}
}

func TestNoAllocationPerToken(t *testing.T) {
	logits := make([]float32, 5000)
	rng := rand.New(rand.NewPCG(5, 6))
	for i := range logits {
		logits[i] = float32(rng.NormFloat64())
	}
	work := make([]float32, len(logits))
	for name, change := range map[string]func(*Params){
		"default":   func(p *Params) {},
		"greedy":    func(p *Params) { *p = Greedy() },
		"nucleus":   func(p *Params) { p.TopK = 0 },
		"whole":     func(p *Params) { p.TopK, p.TopP, p.MinP = 0, 1, 0 },
		"penalties": func(p *Params) { p.RepeatPenalty = 1.1; p.LogitBias = map[int32]float32{1: 1} },
	} {
		p := Default()
		change(&p)
		s, sc := New(p, nil), new(Scratch)
		pos := 0
		step := func() {
			copy(work, logits)
			if _, err := s.Sample(sc, work, pos); err != nil {
				t.Fatal(err)
			}
			pos++
		}
		for range 500 {
			step()
		}
		if n := testing.AllocsPerRun(200, step); n > 0 {
			t.Errorf("%s: %v allocations per token", name, n)
		}
	}
}

func FuzzSample(f *testing.F) {
	f.Add(uint64(1), float32(1), float32(0.9), float32(0.1), 5, 4)
	f.Add(uint64(2), float32(1e-38), float32(0), float32(1), 0, 0)
	f.Add(uint64(3), float32(100), float32(1), float32(0), 1, 19)
	f.Fuzz(func(t *testing.T, seed uint64, temp, topP, minP float32, k, n int) {
		p := Params{Temperature: temp, TopP: topP, MinP: minP, RepeatPenalty: 1.2, TopK: k, RepeatLastN: 3, WantLogprobs: true, Logprobs: n}
		if p.Validate() != nil {
			t.Skip()
		}
		rng := rand.New(rand.NewPCG(seed, 0))
		s, sc := New(p, []int32{1, 2}), new(Scratch)
		for pos := range 8 {
			logits := make([]float32, 1+rng.IntN(40))
			for i := range logits {
				logits[i] = math.Float32frombits(rng.Uint32())
				if logits[i]-logits[i] != 0 || rng.IntN(4) == 0 {
					logits[i] = float32(rng.IntN(3))
				}
			}
			tok, err := s.Sample(sc, logits, pos)
			if err != nil && !errors.Is(err, ErrLogits) {
				t.Fatal(err)
			}
			if err == nil && (tok.ID < 0 || int(tok.ID) >= len(logits)) {
				t.Fatalf("token %d of %d", tok.ID, len(logits))
			}
		}
	})
}

func one(t *testing.T, p Params, history []int32, logits []float32, pos int) Token {
	t.Helper()
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	tok, err := New(p, history).Sample(new(Scratch), slices.Clone(logits), pos)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func BenchmarkSample(b *testing.B) {
	logits := make([]float32, 151936) // Qwen2.5
	rng := rand.New(rand.NewPCG(7, 8))
	for i := range logits {
		logits[i] = float32(rng.NormFloat64() * 3)
	}
	work := make([]float32, len(logits))
	for _, c := range []struct {
		name   string
		change func(*Params)
	}{
		{"greedy", func(p *Params) { *p = Greedy() }},
		{"greedy+logprobs", func(p *Params) { *p = Greedy(); p.WantLogprobs, p.Logprobs = true, 20 }},
		{"default", func(p *Params) {}},
		{"default+penalties", func(p *Params) { p.RepeatPenalty = 1.1 }},
		{"top_p", func(p *Params) { p.TopK = 0 }},
		{"whole", func(p *Params) { p.TopK, p.TopP, p.MinP = 0, 1, 0 }},
	} {
		p := Default()
		c.change(&p)
		b.Run(c.name, func(b *testing.B) {
			s, sc := New(p, nil), new(Scratch)
			b.ReportAllocs()
			for i := range b.N {
				copy(work, logits)
				if _, err := s.Sample(sc, work, i); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
