package pipeline

import "math"

// This file is speculation without a draft model. Stage 0 knows all tokens of a sequence; where the last three have occurred
// before, it guesses that those which followed then follow again, and sends their rows along with the token's. The tail samples after every row as
// it would have anyway, up to the first whose guess was not what was sampled: the tokens are the same as without. Rows of wrong guesses
// are forgotten by every stage when the next rows come.

const (
	// maxGuesses is how many rows of guesses may go along with a token.
	maxGuesses = 7
	// guessGain is what guessing must promise: that many times the tokens of all that decode.
	guessGain = 1.05
	// guessProbe is after how many tokens guesses are tried whose cost has never been measured.
	guessProbe = 16
	// guessShare is the weight of a token in the mean of how often guesses are right.
	guessShare = 0.1
)

// guesser is what stage 0 knows of a sequence's tokens.
type guesser struct {
	tokens []int32
	after  map[[3]int32]int32 // where the tokens went on after three, the last time
	right  float64            // how often the next token was the one that would have been guessed
	since  int                // tokens since a guess of unknown cost
}

// add takes tokens in. learn says that they were generated, so that they tell how good guesses are.
func (g *guesser) add(learn bool, tokens ...int32) {
	if g.after == nil {
		g.after = make(map[[3]int32]int32)
	}
	for _, id := range tokens {
		if at, ok := g.find(); learn && ok {
			hit := 0.0
			if g.tokens[at] == id {
				hit = 1
			}
			g.right += guessShare * (hit - g.right)
		}
		if n := len(g.tokens); n >= 3 {
			g.after[[3]int32(g.tokens[n-3:])] = int32(n)
		}
		g.tokens = append(g.tokens, id)
	}
	if learn {
		g.since++
	}
}

// find is where the last three tokens were followed by something before.
func (g *guesser) find() (at int, ok bool) {
	n := len(g.tokens)
	if n < 3 {
		return 0, false
	}
	p, ok := g.after[[3]int32(g.tokens[n-3:])]
	return int(p), ok
}

// guess writes up to len(to) tokens that may follow, and tells how many.
func (g *guesser) guess(to []int32) int {
	at, ok := g.find()
	if !ok {
		return 0
	}
	return copy(to, g.tokens[at:])
}

// worth is how many guesses pay, of up to most: the number for which the tokens of all n sequences that decode come fastest. A round
// takes round(k) with k rows more; known is false for a time that is a guess itself.
func (g *guesser) worth(most, n int, round func(k int) (took float64, known bool)) int {
	alone, ok := round(0)
	if !ok || alone <= 0 || most < 1 {
		return 0
	}
	best, gain, unknown := 0, guessGain, false
	for k := 1; k <= most; k++ {
		took, known := round(k)
		if !known {
			if g.since < guessProbe {
				break
			}
			took = alone // try it, to know
		}
		made := float64(k + 1)
		if g.right < 1 {
			made = (1 - math.Pow(g.right, float64(k+1))) / (1 - g.right)
		}
		if v := (float64(n-1) + made) / float64(n) * alone / took; v > gain {
			best, gain, unknown = k, v, !known
		}
	}
	if unknown {
		g.since = 0
	}
	return best
}

// guesses says whether a sequence's tokens may be guessed.
func (o *OpenRequest) guesses() bool { return !o.PromptLogprobs && o.MaxNew > 2 }

// speculate adds guesses to the row of a token.
func (s *stage) speculate(w *work) {
	q := w.seq
	left := min(q.open.MaxNew-(w.pos+1-q.open.Prompt)-1, q.open.Positions-w.pos-1, maxGuesses, s.limits.Guesses)
	if q.guess == nil || left < 1 {
		return
	}
	k := q.guess.guess(w.token[1 : 1+left])
	if !s.eager {
		k = q.guess.worth(k, max(s.flying, 1), s.roundWith)
	}
	w.count += k
	q.stats.Guesses += k
}

// roundWith estimates a round in which so many rows more decode.
func (s *stage) roundWith(more int) (float64, bool) {
	rows := max(s.pace, 1)
	own, ok := s.cost.decodes.at(rows + more)
	if !ok {
		return 0, false
	}
	others := 1.0
	if s.ring.others.seen {
		others = s.ring.others.v
	}
	took := float64(own)*(1+float64(max(s.hops-1, 0))*others) + s.ring.wire.v
	return took, more == 0 || float64(rows+more) <= 1.5*s.cost.decodes.most()
}

// most is the largest number of rows that was measured.
func (c *curve) most() (rows float64) {
	for _, p := range c.points {
		if p.seen > 0 {
			rows = p.rows
		}
	}
	return rows
}
