package sample

import (
	"errors"
	"fmt"
	"math"

	"lamina/kernels"
)

// ErrLogits is returned when a model's logits cannot be a distribution.
var ErrLogits = errors.New("logits are not finite")

// Sampler chooses the tokens of one sequence. Not safe for concurrent use.
type Sampler struct {
	p      Params
	bias   []Alt // Logprob is the bias here
	window window
}

// Scratch is working memory that Samplers used in turn may share. The zero value is ready.
type Scratch struct {
	heap  []Alt     // top-k, worst first
	ids   []int32   // candidates in ascending order
	vals  []float32 // their logits, then their probabilities
	probs []float32
	saved []Alt // logits of the model that bias and penalties have changed
	hist  [histBuckets]float64
}

// New returns a Sampler for a sequence whose tokens so far are history; the last Params.Window of them are enough.
// p must be valid. history is not kept.
func New(p Params, history []int32) *Sampler {
	s := &Sampler{p: p, window: newWindow(p, history)}
	for id, b := range p.LogitBias {
		s.bias = append(s.bias, Alt{ID: id, Logprob: b})
	}
	return s
}

// Sample chooses the token of position pos from the model's logits, which it overwrites, and takes it into the
// penalties' window. The only error is ErrLogits. It allocates for Token.Top alone.
func (s *Sampler) Sample(sc *Scratch, logits []float32, pos int) (Token, error) {
	if at := notFinite(logits); at >= 0 {
		return Token{}, fmt.Errorf("%w: logit %d of %d is %v", ErrLogits, at, len(logits), logits[at])
	}
	if len(logits) == 0 {
		return Token{}, fmt.Errorf("%w: there are none", ErrLogits)
	}
	var t Token
	var norm float32
	if s.p.WantLogprobs {
		norm = kernels.LogSumExp(logits)
		t.Top = sc.top(logits, s.p.Logprobs, norm)
	}
	s.adjust(sc, logits)
	if s.p.Temperature == 0 {
		t.ID = int32(kernels.Argmax(logits))
	} else {
		t.ID = s.draw(sc, logits, pos)
	}
	if s.p.WantLogprobs {
		t.Logprob = sc.original(logits, t.ID) - norm
	}
	s.window.add(t.ID)
	return t, nil
}

// Score tells the log probability of a given token under the model's own distribution, with the n most likely
// alternatives. It is how prompts are scored; logits are left as they are.
func Score(sc *Scratch, logits []float32, id int32, n int) (Token, error) {
	if at := notFinite(logits); at >= 0 {
		return Token{}, fmt.Errorf("%w: logit %d of %d is %v", ErrLogits, at, len(logits), logits[at])
	}
	if id < 0 || int(id) >= len(logits) {
		return Token{}, fmt.Errorf("%w: token %d is outside of the vocabulary of %d", ErrParams, id, len(logits))
	}
	norm := kernels.LogSumExp(logits)
	return Token{ID: id, Logprob: logits[id] - norm, Top: sc.top(logits, n, norm)}, nil
}

// adjust applies bias and penalties in place. Products are rounded before they are added on every CPU.
func (s *Sampler) adjust(sc *Scratch, logits []float32) {
	sc.saved = sc.saved[:0]
	for _, b := range s.bias {
		if int(b.ID) < len(logits) {
			sc.save(logits, b.ID)
			logits[b.ID] += b.Logprob
		}
	}
	for id, n := range s.window.counts {
		if id < 0 || int(id) >= len(logits) {
			continue
		}
		sc.save(logits, id)
		l := logits[id]
		if l > 0 {
			l /= s.p.RepeatPenalty
		} else {
			l *= s.p.RepeatPenalty
		}
		l -= float32(float32(n) * s.p.FrequencyPenalty)
		logits[id] = l - s.p.PresencePenalty
	}
}

func (sc *Scratch) save(logits []float32, id int32) {
	sc.saved = append(sc.saved, Alt{ID: id, Logprob: logits[id]})
}

// original is the model's own logit of a token.
func (sc *Scratch) original(logits []float32, id int32) float32 {
	for _, s := range sc.saved {
		if s.ID == id {
			return s.Logprob
		}
	}
	return logits[id]
}

// draw truncates the distribution and takes a token from what is left.
func (s *Sampler) draw(sc *Scratch, logits []float32, pos int) int32 {
	ids, vals := sc.topK(logits, s.p.TopK)
	ids, vals = sc.truncate(ids, vals, s.p.TopP, s.p.MinP)
	sharpen(vals, s.p.Temperature)
	kernels.Softmax(vals)
	i := pick(vals, uniform(s.p.Seed, pos))
	if ids == nil {
		return int32(i)
	}
	return ids[i]
}

// sharpen divides by the temperature, the largest logit moved to 0 so that nothing overflows.
func sharpen(vals []float32, temperature float32) {
	inv := min(1/temperature, math.MaxFloat32)
	top := vals[kernels.Argmax(vals)]
	for i, v := range vals {
		vals[i] = (v - top) * inv
	}
}

// pick walks probs in order to the first element where the sum passes the share u of the whole.
func pick(probs []float32, u float64) int {
	var total float64
	for _, p := range probs {
		total += float64(p)
	}
	target := u * total
	var sum float64
	last := 0
	for i, p := range probs {
		if p == 0 {
			continue
		}
		last = i
		if sum += float64(p); sum > target {
			return i
		}
	}
	return last
}

// notFinite is the index of the first NaN or infinity, or -1.
func notFinite(x []float32) int {
	const exponent = 0x7f800000
	var m0, m1, m2, m3 uint32
	i := 0
	for ; i+4 <= len(x); i += 4 {
		m0 = max(m0, math.Float32bits(x[i])&exponent)
		m1 = max(m1, math.Float32bits(x[i+1])&exponent)
		m2 = max(m2, math.Float32bits(x[i+2])&exponent)
		m3 = max(m3, math.Float32bits(x[i+3])&exponent)
	}
	for ; i < len(x); i++ {
		m0 = max(m0, math.Float32bits(x[i])&exponent)
	}
	if max(m0, m1, m2, m3) != exponent {
		return -1
	}
	for i, v := range x {
		if v-v != 0 {
			return i
		}
	}
	return -1
}
