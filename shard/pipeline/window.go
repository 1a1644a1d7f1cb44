package pipeline

import "math"

// window bounds the chunks of one prompt that are between the gateway and the end of the tail. Credits name the
// position up to which the tail is done, so a credit that comes twice, or for a part of a chunk, does no harm.
type window struct {
	limit int
	ends  []int // positions at which the chunks under way end, ascending
	done  int   // up to here all are done
}

// room tells whether another chunk may be sent.
func (w *window) room() bool { return len(w.ends) < w.limit }

// sent notes a chunk that ends at position end.
func (w *window) sent(end int) { w.ends = append(w.ends, end) }

// credit takes note that the tail is done up to pos, and tells how many chunks and rows that ends.
func (w *window) credit(pos int) (chunks, rows int) {
	for chunks < len(w.ends) && w.ends[chunks] <= pos {
		rows += w.ends[chunks] - w.done
		w.done = w.ends[chunks]
		chunks++
	}
	w.ends = w.ends[:copy(w.ends, w.ends[chunks:])]
	return chunks, rows
}

// pace is what the prompts that went over a route have taught about it.
type pace struct {
	weight mean  // a chunk takes as long as so many rows more: as the tail tells
	row    floor // nanoseconds of the slowest stage for a row, and for each of the weight's
	wire   floor // nanoseconds of the way to the tail and back without any computing
}

const (
	leastChunk  = 32 // rows of the shortest chunk but the last
	guessWeight = 16
)

// chunkRows is how many rows the chunks of a prompt should have. One stage takes the largest: it cuts them as it needs. Of several,
// each waits while the first chunk comes to it and after the last has left, so the best size lies between few rows,
// for which the weights are read often, and many, during which stages are idle. Besides, the chunks that the credits allow must last
// until the credit for the first is back.
func (p *pace) chunkRows(prompt, hops, most int) int {
	if hops == 1 {
		return most
	}
	weight := float64(guessWeight)
	if p.weight.seen > 0 {
		weight = p.weight.v
	}
	wire := 0.0 // in rows
	if p.row.v > 0 {
		wire = p.wire.v / p.row.v
	}
	best, least := 0, 0.0
	for rows := leastChunk; ; rows += 16 {
		rows = min(rows, most)
		n, one := math.Ceil(float64(prompt)/float64(rows)), float64(rows)+weight
		rest := max(one, (float64(hops)*one+wire)/float64(hops+1)) // for each that waits for a credit
		took := n*one + float64(hops-1)*one + max(n-float64(hops)-1, 0)*(rest-one)
		if best == 0 || took < least {
			best, least = rows, took
		}
		if rows >= most || rows >= prompt {
			return best
		}
	}
}

// nextChunk is how many of the rows that are left the next chunk takes. All are of one size: through equal stages a prompt takes the
// sum of its chunks in one of them, and the longest in each of the others, so shorter ones in front or at the end gain nothing.
func nextChunk(size, left int) int {
	parts := (left + size - 1) / size
	return (left + parts - 1) / parts
}
