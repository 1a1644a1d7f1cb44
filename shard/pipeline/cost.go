package pipeline

import (
	"math/bits"
	"time"
)

// curve is a measured time as a function of a number of rows. It keeps a moving mean for every half of an octave in which rows
// have been met, and a line between them. The zero value knows nothing.
type curve struct {
	points [24]point // from 2^i rows on and from 1.5 x 2^i on; the last one of all that are more
}

type point struct {
	rows, took float64 // moving means; took in nanoseconds
	seen       int
}

const (
	curveShare = 8 // a measurement moves the mean by this part, at first by more
	curveClip  = 4 // one that is so many times the mean counts as so many: the machine did something else
)

// add takes a measurement in.
func (c *curve) add(rows int, took time.Duration) {
	if rows < 1 || took < 0 {
		return
	}
	octave := bits.Len(uint(rows)) - 1
	p := &c.points[min(2*octave+(2*rows>>octave)&1, len(c.points)-1)]
	v := float64(took)
	if p.seen >= curveShare {
		v = min(v, curveClip*p.took)
	}
	p.seen = min(p.seen+1, curveShare)
	p.rows += (float64(rows) - p.rows) / float64(p.seen)
	p.took += (v - p.took) / float64(p.seen)
}

// met tells whether about so many rows have been measured.
func (c *curve) met(rows int) bool {
	octave := bits.Len(uint(max(rows, 1))) - 1
	return c.points[min(2*octave+(2*rows>>octave)&1, len(c.points)-1)].seen > 0
}

// at estimates the time of a number of rows; ok is false if nothing is known. Fewer rows than were ever measured take as
// long as the fewest that were, more take longer in proportion or as the line through the last two says. It never falls
// with the number of rows.
func (c *curve) at(rows int) (took time.Duration, ok bool) {
	var last, before point
	n := float64(rows)
	for _, p := range c.points {
		if p.seen == 0 {
			continue
		}
		p.took = max(p.took, last.took)
		if n <= p.rows {
			if last.seen == 0 || p.rows == last.rows {
				return time.Duration(p.took), true
			}
			return time.Duration(last.took + (p.took-last.took)*(n-last.rows)/(p.rows-last.rows)), true
		}
		before, last = last, p
	}
	switch {
	case last.seen == 0:
		return 0, false
	case before.seen == 0 || last.rows <= before.rows:
		return time.Duration(last.took * n / last.rows), true
	}
	return time.Duration(last.took + (last.took-before.took)*(n-last.rows)/(last.rows-before.rows)), true
}

// weight is the fixed part of the time in rows: as many more would take as long. 0: not known.
func (c *curve) weight() int {
	var few, many point
	for _, p := range c.points {
		if p.seen > 0 && few.seen == 0 {
			few = p
		} else if p.seen > 0 {
			many = p
		}
	}
	if many.seen == 0 || many.took <= few.took {
		return 0
	}
	row := (many.took - few.took) / (many.rows - few.rows)
	return min(max(int(few.took/row-few.rows), 1), maxWeight)
}

const maxWeight = 1024

// cost is what the steps of a stage have been measured to take: with decodes alone, with rows of prompts alone, and what
// rows of prompts add to a step that decodes.
type cost struct {
	decodes, prompts, beside curve
}

// add takes a step's time in.
func (c *cost) add(rows, decodes int, took time.Duration) {
	switch {
	case rows == 0:
		c.decodes.add(decodes, took)
	case decodes == 0:
		c.prompts.add(rows, took)
	default:
		if alone, ok := c.decodes.at(decodes); ok {
			c.beside.add(rows, max(took-alone, 0))
		}
	}
}

// at estimates a step's time; 0 if nothing is known of its kind.
func (c *cost) at(rows, decodes int) time.Duration {
	var took time.Duration
	if decodes > 0 {
		took, _ = c.decodes.at(decodes)
	}
	return took + c.added(rows, decodes > 0)
}

// added is what rows of prompts add to a step. Beside decodes, before that was measured, it is taken for as much as alone.
func (c *cost) added(rows int, beside bool) time.Duration {
	if rows == 0 {
		return 0
	}
	if beside {
		if took, ok := c.beside.at(rows); ok {
			return took
		}
	}
	took, _ := c.prompts.at(rows)
	return took
}

// rows is how many rows of prompts may be added to a step so that it takes longer by no more than the given time. known is
// false if nothing was measured.
func (c *cost) rows(within time.Duration, beside bool, most int) (n int, known bool) {
	if c.added(most, beside) == 0 {
		return 0, false
	}
	low, high := 0, most
	for low < high {
		mid := (low + high + 1) / 2
		if c.added(mid, beside) <= within {
			low = mid
		} else {
			high = mid - 1
		}
	}
	return low, true
}

// mean is a moving mean; the zero value knows nothing.
type mean struct {
	v    float64
	seen int
}

func (m *mean) add(v float64) {
	m.seen = min(m.seen+1, curveShare)
	m.v += (v - m.v) / float64(m.seen)
}

// floor follows the smallest of its values: down at once, up over thousands of them. It finds what a time is without the
// waiting in it.
type floor struct {
	v    float64
	seen bool
}

func (f *floor) add(v float64) {
	if !f.seen || v < f.v {
		f.v, f.seen = v, true
		return
	}
	f.v += (v - f.v) / 2048
}
