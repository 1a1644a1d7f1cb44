package shard

import (
	"fmt"

	"lamina/shard/arch"
)

// Rows is what one sequence brings to a step.
type Rows struct {
	Seq    *Seq
	Tokens []int32   // for the first span: a token for each row
	X      []float32 // for the others: the previous span's result, rows x Hidden
	// Logits is how many of the last rows want logits, in the last span; in others it must be zero.
	Logits int
}

// rows returns the number of rows.
func (r Rows) rows(hidden int, first bool) int {
	if first {
		return len(r.Tokens)
	}
	return len(r.X) / hidden
}

// stepState is the memory that a Shard's steps reuse.
type stepState struct {
	arch *arch.Step
	mark uint64 // number of the step, to find a sequence that is there twice
	x    []float32
	pick []float32 // rows that want logits
	out  []float32
	done int // elements of out that hold logits
	res  [][]float32
	runs []arch.Run
}

// keep is the size in elements up to which a buffer is kept whatever the next step needs.
const keep = 4 << 20

// Step advances the sequences of the batch by their rows and returns one result for each: the
// activations after the span, rows x Hidden, or in the last span Logits x Vocab. An encoder takes each
// text whole, in a sequence without positions, and its last span returns one embedding of Hidden elements. All rows share the
// matrix products; the bits of a row's result do not depend on the others, nor on how a sequence's rows
// are spread over steps. The results are good until the next Step. On an error, which wraps ErrInput,
// ErrContext, ErrNoMemory (rows beyond what is reserved) or ErrClosed, nothing has changed.
func (s *Shard) Step(batch []Rows) ([][]float32, error) {
	s.stepping.Lock()
	defer s.stepping.Unlock()
	total, logits, err := s.check(batch)
	if err != nil {
		return nil, err
	}
	st := &s.step
	n := total * s.info.Hidden
	switch {
	case s.head != nil:
		n = logits * s.info.Vocab
	case s.last():
		n = len(batch) * s.info.Hidden
	}
	st.out = resize(st.out, n)
	st.res, st.done = st.res[:0], 0
	out := st.out
	for _, r := range batch {
		n := r.rows(s.info.Hidden, s.embed != nil) * s.info.Hidden
		switch {
		case s.head != nil:
			n = r.Logits * s.info.Vocab
		case s.last():
			n = s.info.Hidden
		}
		st.res = append(st.res, out[:n:n])
		out = out[n:]
	}
	for at := (cursor{}); at.entry < len(batch); {
		at = s.slice(batch, at)
	}
	for i := range batch {
		batch[i].Seq.offer()
	}
	return st.res, nil
}

// check refuses a batch that cannot be computed, before anything is. It returns the number of rows, and
// of those that want logits.
func (s *Shard) check(batch []Rows) (total, logits int, err error) {
	s.pool.memory.mu.Lock()
	closed := s.pool.closed
	s.pool.memory.mu.Unlock()
	if closed {
		return 0, 0, ErrClosed
	}
	s.step.mark++
	for i, r := range batch {
		if r.Seq == nil || r.Seq.shard != s {
			return 0, 0, fmt.Errorf("entry %d: %w: its sequence is freed or of another shard", i, ErrClosed)
		}
		if r.Seq.mark == s.step.mark {
			return 0, 0, fmt.Errorf("entry %d: %w: its sequence is there twice", i, ErrInput)
		}
		r.Seq.mark = s.step.mark
		if err := s.checkRows(r); err != nil {
			return 0, 0, fmt.Errorf("entry %d: %w", i, err)
		}
		total += r.rows(s.info.Hidden, s.embed != nil)
		logits += r.Logits
	}
	return total, logits, nil
}

func (s *Shard) checkRows(r Rows) error {
	n := r.rows(s.info.Hidden, s.embed != nil)
	switch {
	case s.embed != nil && r.X != nil || s.embed == nil && r.Tokens != nil:
		return fmt.Errorf("%w: span %v takes tokens if it is the first, else activations", ErrInput, s.span)
	case s.embed == nil && len(r.X)%s.info.Hidden != 0:
		return fmt.Errorf("%w: %d activations are no rows of %d", ErrInput, len(r.X), s.info.Hidden)
	case n == 0:
		return fmt.Errorf("%w: no rows", ErrInput)
	case r.Logits < 0 || r.Logits > n || s.head == nil && r.Logits > 0:
		return fmt.Errorf("%w: logits of %d of %d rows in span %v of %d layers", ErrInput, r.Logits, n, s.span, s.info.Layers)
	case s.info.Encoder && r.Seq.Len() > 0:
		return fmt.Errorf("%w: an encoder takes a text whole, the sequence has %d positions already", ErrInput, r.Seq.Len())
	case n > r.Seq.max-r.Seq.Len():
		return fmt.Errorf("%w: %d rows after %d positions, the sequence was opened for %d", ErrContext, n, r.Seq.Len(), r.Seq.max)
	case n > r.Seq.room():
		return fmt.Errorf("%w: %d rows after %d positions, %d are reserved", ErrNoMemory, n, r.Seq.Len(), r.Seq.Len()+r.Seq.room())
	}
	for _, t := range r.Tokens {
		if t < 0 || int(t) >= s.info.Vocab {
			return fmt.Errorf("%w: token %d of a vocabulary of %d", ErrInput, t, s.info.Vocab)
		}
	}
	return nil
}

// cursor is a place in a batch: a row of an entry.
type cursor struct{ entry, row int }

// slice carries up to MaxRows rows from a place on through the layers and returns the place after them; of
// an encoder, whose rows see later ones, whole texts, be it one of more rows.
func (s *Shard) slice(batch []Rows, from cursor) cursor {
	st, h := &s.step, s.info.Hidden
	st.runs = st.runs[:0]
	at, rows := from, 0
	for at.entry < len(batch) && rows < s.opt.MaxRows {
		r := &batch[at.entry]
		all := r.rows(h, s.embed != nil)
		n := min(all-at.row, s.opt.MaxRows-rows)
		if s.info.Encoder && n < all {
			if rows > 0 {
				break
			}
			n = all
		}
		st.runs = append(st.runs, arch.Run{KV: r.Seq.kv, First: r.Seq.Len(), Rows: n})
		at.row, rows = at.row+n, rows+n
		if at.row == all {
			at = cursor{entry: at.entry + 1}
		}
	}
	st.x = resize(st.x, rows*h)
	s.enter(batch, from)
	st.arch.Begin(st.x, st.runs)
	st.arch.Layers(s.layers)
	s.leave(batch, from)
	return at
}

// enter fills the residual stream of a slice.
func (s *Shard) enter(batch []Rows, from cursor) {
	st, h := &s.step, s.info.Hidden
	x := st.x
	for i, run := range st.runs {
		r := &batch[from.entry+i]
		n := run.Rows * h
		if s.embed != nil {
			s.embed.Look(s.params, x[:n], r.Tokens[from.row:from.row+run.Rows], run.First)
		} else {
			copy(x[:n], r.X[from.row*h:])
		}
		x = x[n:]
		from.row = 0 // only the first entry of a slice may begin in its middle
	}
}

// leave takes the results of a slice from the residual stream. The rows that want logits are gathered, so
// that they share the product with the output matrix, and stand in out in the order of the batch.
func (s *Shard) leave(batch []Rows, from cursor) {
	st, h := &s.step, s.info.Hidden
	x := st.x
	st.pick = st.pick[:0]
	for i, run := range st.runs {
		entry, n := from.entry+i, run.Rows*h
		if s.head == nil && s.last() {
			s.params.Pool(st.res[entry], x[:n])
		} else if s.head == nil {
			copy(st.res[entry][from.row*h:], x[:n])
		} else {
			r := &batch[entry]
			skip := r.rows(h, s.embed != nil) - r.Logits - from.row // rows of the run that want none
			if skip = max(skip, 0); skip < run.Rows {
				st.pick = append(st.pick, x[skip*h:n]...)
			}
		}
		x = x[n:]
		from.row = 0
	}
	if rows := len(st.pick) / h; rows > 0 {
		n := rows * s.info.Vocab
		st.arch.Logits(st.out[st.done:st.done+n], st.pick, rows, s.head)
		st.done += n
	}
}

// resize returns a slice of n elements with unspecified contents, of b's memory if that is large enough
// and not much too large.
func resize(b []float32, n int) []float32 {
	if cap(b) < n || cap(b) > keep && n < cap(b)/4 {
		return make([]float32, n)
	}
	return b[:n]
}
