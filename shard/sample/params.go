package sample

import (
	"errors"
	"fmt"
	"math"
)

// Bounds of what a request may ask for.
const (
	MaxLogprobs  = 20
	MaxLogitBias = 1024
)

// ErrParams is wrapped by every error of Validate; the text names the field and its range.
var ErrParams = errors.New("invalid sampling parameters")

// Params says how the next token is chosen. It is a value: copy it freely, but LogitBias is shared
// by copies and must not change while a Sampler uses it. Start from Default or Greedy.
type Params struct {
	// Temperature flattens (>1) or sharpens (<1) the distribution; 0 takes the most likely token.
	Temperature float32
	// TopP keeps the smallest set of the most likely tokens whose probabilities reach it; 1 keeps all.
	TopP float32
	// MinP drops tokens less likely than MinP times the most likely one; 0 drops none.
	MinP float32
	// RepeatPenalty divides positive and multiplies negative logits of tokens in the window; 1 is off.
	RepeatPenalty float32
	// PresencePenalty is taken once from the logit of each token in the window; 0 is off.
	PresencePenalty float32
	// FrequencyPenalty is taken once per occurrence in the window; 0 is off.
	FrequencyPenalty float32
	// TopK keeps the K most likely tokens; 0 keeps all.
	TopK int
	// RepeatLastN is the window of the three penalties, in tokens of prompt and answer: 0 none, -1 all.
	RepeatLastN int
	// Seed with the position alone decides the random number of a step.
	Seed uint64
	// LogitBias is added to the logits of these tokens first of all; ids outside the vocabulary have no effect.
	LogitBias map[int32]float32
	// WantLogprobs asks for the log probability of each chosen token under the model's own distribution
	// (before every step here), and Logprobs for that many of the most likely alternatives beside it.
	WantLogprobs bool
	Logprobs     int
}

// Default returns the settings that llama.cpp's tools start with.
func Default() Params {
	return Params{Temperature: 0.8, TopP: 0.95, MinP: 0.05, RepeatPenalty: 1, TopK: 40, RepeatLastN: 64}
}

// Greedy returns the settings that always take the most likely token.
func Greedy() Params {
	return Params{TopP: 1, RepeatPenalty: 1, RepeatLastN: 64}
}

// Validate reports the first setting out of range; the error wraps ErrParams.
func (p Params) Validate() error {
	for _, f := range []struct {
		name   string
		v      float32
		lo, hi float32
	}{
		{"temperature", p.Temperature, 0, 100},
		{"top_p", p.TopP, 0, 1},
		{"min_p", p.MinP, 0, 1},
		{"repeat_penalty", p.RepeatPenalty, 0.01, 100},
		{"presence_penalty", p.PresencePenalty, -100, 100},
		{"frequency_penalty", p.FrequencyPenalty, -100, 100},
	} {
		if !(f.v >= f.lo && f.v <= f.hi) { // also catches NaN
			return fmt.Errorf("%w: %s is %v, must be from %v to %v", ErrParams, f.name, f.v, f.lo, f.hi)
		}
	}
	for _, f := range []struct {
		name   string
		v      int
		lo, hi int
	}{
		{"top_k", p.TopK, 0, math.MaxInt32},
		{"repeat_last_n", p.RepeatLastN, -1, math.MaxInt32},
		{"logprobs", p.Logprobs, 0, MaxLogprobs},
		{"number of logit_bias entries", len(p.LogitBias), 0, MaxLogitBias},
	} {
		if f.v < f.lo || f.v > f.hi {
			return fmt.Errorf("%w: %s is %d, must be from %d to %d", ErrParams, f.name, f.v, f.lo, f.hi)
		}
	}
	return p.validateBias()
}

func (p Params) validateBias() error {
	for id, b := range p.LogitBias {
		if id < 0 {
			return fmt.Errorf("%w: logit_bias names token %d, must be 0 or more", ErrParams, id)
		}
		if !(b >= -100 && b <= 100) {
			return fmt.Errorf("%w: logit_bias of token %d is %v, must be from -100 to 100", ErrParams, id, b)
		}
	}
	return nil
}

// Token is what a step chose.
type Token struct {
	ID int32
	// Logprob is the natural logarithm of the token's probability; 0 unless Params.WantLogprobs.
	Logprob float32
	// Top are the most likely tokens, best first, as many as Params.Logprobs. It is the caller's.
	Top []Alt
}

// Alt is a token that could have been chosen.
type Alt struct {
	ID      int32
	Logprob float32
}
