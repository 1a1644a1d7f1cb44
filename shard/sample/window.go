package sample

// window counts the last tokens, for the penalties.
type window struct {
	last   int             // tokens that count; -1: all
	ring   []int32         // the last ones, once full the oldest at next; unused if all count
	next   int             //
	counts map[int32]int32 // occurrences in the window
}

// Window tells how many of the last tokens of a history of n the penalties look at.
func (p Params) Window(n int) int {
	if p.RepeatPenalty == 1 && p.PresencePenalty == 0 && p.FrequencyPenalty == 0 {
		return 0
	}
	if p.RepeatLastN < 0 {
		return n
	}
	return min(n, p.RepeatLastN)
}

func newWindow(p Params, history []int32) window {
	w := window{last: p.RepeatLastN}
	if p.Window(1) == 0 {
		w.last = 0
		return w
	}
	w.counts = make(map[int32]int32)
	for _, id := range history[len(history)-p.Window(len(history)):] {
		w.add(id)
	}
	return w
}

// add lets a token in and, if the window is full, the oldest out. The ring grows as tokens come, not by what was asked for.
func (w *window) add(id int32) {
	switch {
	case w.last == 0:
		return
	case w.last < 0:
	case len(w.ring) < w.last:
		w.ring = append(w.ring, id)
	default:
		old := w.ring[w.next]
		w.ring[w.next] = id
		w.next = (w.next + 1) % w.last
		if w.counts[old]--; w.counts[old] == 0 {
			delete(w.counts, old)
		}
	}
	w.counts[id]++
}
