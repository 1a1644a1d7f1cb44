// Package sample turns the logits of a model's last row into the next token.
//
// The steps apply in the order of llama.cpp's default chain, so that settings mean the same here as there:
//
//	logit bias, penalties (repetition, frequency, presence), top-k, top-p, min-p, temperature, draw
//
// Top-p and min-p therefore look at the distribution before temperature, renormalised over what top-k left.
// With temperature 0 the token with the largest logit after bias and penalties is taken, the lowest id among equals.
// Log probabilities are those of the model's own distribution: before bias, penalties and everything else.
//
// The random number of a step is a function of (Seed, position) alone (Philox4x32-10 of Salmon et al.,
// "Parallel random numbers: as easy as 1, 2, 3", SC 2011), and the arithmetic is that of package kernels or
// plain additions in a fixed order: the same logits give the same token on every CPU, after a fail-over, and
// whatever else is sampled beside.
package sample
