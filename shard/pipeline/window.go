package pipeline

// window bounds the chunks of one prompt that are between the gateway and the end of the tail. Credits name the
// position up to which the tail is done, so a credit that comes twice, or for a part of a chunk, does no harm.
type window struct {
	limit int
	ends  []int // positions at which the chunks under way end, ascending
}

// room tells whether another chunk may be sent.
func (w *window) room() bool { return len(w.ends) < w.limit }

// sent notes a chunk that ends at position end.
func (w *window) sent(end int) { w.ends = append(w.ends, end) }

// credit takes note that the tail is done up to pos.
func (w *window) credit(pos int) {
	n := 0
	for n < len(w.ends) && w.ends[n] <= pos {
		n++
	}
	w.ends = w.ends[:copy(w.ends, w.ends[n:])]
}

// chunkRows is how many rows a chunk of a prompt should have. One stage takes the largest; several take about four
// chunks each, so that all are busy for most of the time, but none so short that the weights are read for few rows.
func chunkRows(prompt, hops, most int) int {
	if hops == 1 {
		return most
	}
	const least, step = 32, 16
	n := (prompt + 4*hops - 1) / (4 * hops)
	n = (n + step - 1) / step * step
	return min(max(n, least), most)
}
