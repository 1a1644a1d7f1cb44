package pipeline

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"lamina/shard/sample"
)

// The fake model is arithmetic on hashes: what a row becomes depends on every earlier row of its sequence, in order, at every
// layer, so that a row lost, doubled, moved or given to another sequence changes the tokens that follow.
const (
	fakeHidden  = 3
	fakeVocab   = 61
	fakeContext = 4096
)

func mix(a, b uint32) uint32 {
	x := a*0x9E3779B1 ^ (b + 0x7F4A7C15 + a<<6 + a>>2)
	x ^= x >> 15
	x *= 0x85EBCA6B
	return x ^ x>>13
}

// fakeStepper is a span of the fake model that checks how it is used. Its cache holds what is named without end, and counts
// blocks of all live sequences, also of those that share them.
type fakeStepper struct {
	shape  Shape
	budget int // blocks that live sequences may have; 0: any number
	used   int
	cache  map[Key][][]uint32 // of each layer, the hashes of a block
	hits   int                // blocks that were found
	live   atomic.Int64       // sequences that are not freed
	rhyme  bool               // the last stage likes some tokens after others, so that they can be guessed
	steps  int
	rows   [][]int                        // rows of each entry of each step
	before func(step int, b []Rows) error // runs in Step; may panic
	out    [][]float32
}

func newFake(first, end, layers int) *fakeStepper {
	return &fakeStepper{shape: Shape{First: first, End: end, Layers: layers, Hidden: fakeHidden, Vocab: fakeVocab, Context: fakeContext}, cache: map[Key][][]uint32{}}
}

func (s *fakeStepper) Shape() Shape { return s.shape }

func (s *fakeStepper) NewSeq(max int, prefix []Key) (Seq, error) {
	q := &fakeSeq{s: s, max: max, past: make([][]uint32, s.shape.End-s.shape.First)}
	for _, k := range prefix {
		block, ok := s.cache[k]
		if !ok {
			break
		}
		for l := range q.past {
			q.past[l] = append(q.past[l], block[l]...)
		}
		q.blocks++
		s.hits++
	}
	s.used += q.blocks
	s.live.Add(1)
	return q, nil
}

func (s *fakeStepper) Capacity() int { return s.budget * BlockLen }

// fakeSeq keeps, of each layer, a hash over the rows up to each position.
type fakeSeq struct {
	s      *fakeStepper
	max    int
	blocks int // reserved
	past   [][]uint32
	freed  bool
}

func (q *fakeSeq) Len() int { return len(q.past[0]) }

func (q *fakeSeq) Rewind(pos int) {
	for l := range q.past {
		q.past[l] = q.past[l][:pos]
	}
}

func (q *fakeSeq) Reserve(n int) error {
	if q.freed || n > q.max {
		panic(fmt.Sprintf("%d positions reserved, at most %d, freed %v", n, q.max, q.freed))
	}
	more := (n+BlockLen-1)/BlockLen - q.blocks
	if more <= 0 {
		return nil
	}
	if q.s.budget > 0 && q.s.used+more > q.s.budget {
		return fmt.Errorf("%w: %d of %d blocks are taken", ErrNoMemory, q.s.used, q.s.budget)
	}
	q.s.used += more
	q.blocks += more
	return nil
}

// Name checks that what is known by a key is what this sequence has.
func (q *fakeSeq) Name(keys []Key) {
	if len(keys) > q.Len()/BlockLen {
		panic("a block that is not full is named")
	}
	for i, k := range keys {
		var block [][]uint32
		for _, past := range q.past {
			block = append(block, slices.Clone(past[i*BlockLen:(i+1)*BlockLen]))
		}
		if known, ok := q.s.cache[k]; ok && !slices.EqualFunc(known, block, slices.Equal) {
			panic("a block is known by this name, but is another")
		}
		q.s.cache[k] = block
	}
}

func (q *fakeSeq) Free() {
	if q.freed {
		panic("freed twice")
	}
	q.freed = true
	q.s.used -= q.blocks
	q.s.live.Add(-1)
}

func (s *fakeStepper) Step(batch []Rows) ([][]float32, error) {
	s.steps++
	if s.before != nil {
		if err := s.before(s.steps, batch); err != nil {
			return nil, err
		}
	}
	for _, o := range s.out { // results of the last step are void now
		for i := range o {
			o[i] = -1
		}
	}
	s.out = nil
	var counts []int
	seen := map[*fakeSeq]bool{}
	for i, r := range batch {
		q := r.Seq.(*fakeSeq)
		if q.freed || q.s != s || seen[q] {
			return nil, fmt.Errorf("entry %d: freed %v, twice %v", i, q.freed, seen[q])
		}
		seen[q] = true
		out, n, err := s.entry(q, r)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
		counts = append(counts, n)
		s.out = append(s.out, out)
	}
	s.rows = append(s.rows, counts)
	return s.out, nil
}

func (s *fakeStepper) entry(q *fakeSeq, r Rows) ([]float32, int, error) {
	n := len(r.Tokens)
	if s.shape.First > 0 {
		n = len(r.X) / fakeHidden
	}
	if n == 0 || q.Len()+n > min(q.max, q.blocks*BlockLen) {
		return nil, 0, fmt.Errorf("%d rows after %d of %d", n, q.Len(), q.max)
	}
	var out []float32
	for i := range n {
		pos := q.Len()
		var x, tok uint32
		if s.shape.First == 0 {
			tok = uint32(r.Tokens[i])
			x = mix(tok, 77)
		} else {
			tok = uint32(r.X[i*fakeHidden+2])
			if int(r.X[i*fakeHidden+1]) != pos {
				return nil, 0, fmt.Errorf("row of position %v at %d", r.X[i*fakeHidden+1], pos)
			}
			x = uint32(r.X[i*fakeHidden])
		}
		for l := range q.past {
			prev := uint32(1)
			if pos > 0 {
				prev = q.past[l][pos-1]
			}
			q.past[l] = append(q.past[l], mix(prev, x))
			x = mix(q.past[l][pos], x+uint32(s.shape.First+l)) & 0xFFFFF // exact in a float32
		}
		if s.shape.End < s.shape.Layers {
			out = append(out, float32(x), float32(pos), float32(tok))
		} else if i >= n-r.Logits {
			for v := range uint32(fakeVocab) {
				l := float32(mix(x, v)%1000) / 150
				if s.rhyme && x%5 > 0 && v == (tok+1)%4 {
					l += 9
				}
				out = append(out, l)
			}
		}
	}
	return out, n, nil
}

// oracle runs a request through the whole model in one go, alone, row by row.
func oracle(t testing.TB, layers int, r Request) []Token { return rhyme(t, layers, r, false) }

// rhyme is oracle for a model that rhymes, or not.
func rhyme(t testing.TB, layers int, r Request, rhymes bool) []Token {
	t.Helper()
	s := newFake(0, layers, layers)
	s.rhyme = rhymes
	q, _ := s.NewSeq(fakeContext, nil)
	_ = q.Reserve(fakeContext)
	smp, sc := sample.New(r.Sampling, r.Tokens), new(sample.Scratch)
	var out []Token
	step := func(id int32) []float32 {
		logits, err := s.Step([]Rows{{Seq: q, Tokens: []int32{id}, Logits: 1}})
		if err != nil {
			t.Fatal(err)
		}
		return logits[0]
	}
	var logits []float32
	for i, id := range r.Tokens {
		if r.PromptLogprobs && i > 0 {
			tok, err := sample.Score(sc, logits, id, r.Sampling.Logprobs)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, Token{Token: tok, Index: i, Prompt: true})
		}
		logits = slices.Clone(step(id))
	}
	for i := range r.MaxNew {
		tok, err := smp.Sample(sc, logits, len(r.Tokens)+i)
		if err != nil {
			t.Fatal(err)
		}
		e := Token{Token: tok, Index: i}
		if slices.Contains(r.EOS, tok.ID) {
			e.Last, e.Reason = true, ReasonEOS
		} else if i == r.MaxNew-1 {
			e.Last, e.Reason = true, ReasonLength
		}
		if out = append(out, e); e.Last {
			break
		}
		logits = slices.Clone(step(tok.ID))
	}
	return out
}

// sameTokens compares what came with what should have.
func sameTokens(got, want []Token) error {
	for i := range min(len(got), len(want)) {
		g, w := got[i], want[i]
		if g.ID != w.ID || g.Index != w.Index || g.Last != w.Last || g.Reason != w.Reason || g.Prompt != w.Prompt ||
			g.Logprob != w.Logprob || !slices.Equal(g.Top, w.Top) {
			return fmt.Errorf("token %d is %+v, want %+v", i, g, w)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d tokens, want %d", len(got), len(want))
	}
	return nil
}

// spans cuts layers into n spans as even as can be.
func spans(layers, n int) [][2]int {
	var out [][2]int
	for i := range n {
		out = append(out, [2]int{layers * i / n, layers * (i + 1) / n})
	}
	return out
}

var errTest = errors.New("made to fail by the test")

// epoch0 is a time to begin at.
var epoch0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
