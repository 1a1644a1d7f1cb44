package arch

import "lamina/kernels"

// Mixture is a layer's experts: each matrix holds those of all experts, one after the other. Biases may be nil.
type Mixture struct {
	Router, Gate, Up, Down                 *kernels.Matrix
	RouterBias, GateBias, UpBias, DownBias []float32

	// Weigh turns a row of the router's results into weights, of which those of the chosen experts count.
	Weigh func(logits []float32, chosen []int)
	Act   func(y, gate, up []float32)
}

// mixing is the memory of Mix.
type mixing struct {
	logits  []float32 // rows x experts: results of the router, then weights
	chosen  []int     // rows x Chosen, ascending in a row
	first   []int     // of each expert, where its rows begin in members
	members []int     // rows by expert
	in, sum []float32
}

// Mix adds to X what the chosen experts make of the input (Shazeer et al., "Sparsely-Gated Mixture-of-Experts",
// 2017): rows are grouped by expert, so that each expert's weights are read once, and only those of chosen ones. A row
// adds up its experts in their order.
func (s *Step) Mix(m *Mixture) {
	s.route(m)
	h, e := s.p.Hidden, &s.moe
	e.sum = grow(e.sum, s.rows*h)
	clear(e.sum)
	for x := range s.p.Experts {
		rows := e.members[e.first[x]:e.first[x+1]]
		if len(rows) == 0 {
			continue
		}
		e.in = grow(e.in, len(rows)*h)
		for i, r := range rows {
			copy(e.in[i*h:(i+1)*h], s.norm[r*h:(r+1)*h])
		}
		y := s.expert(m, x, len(rows))
		for i, r := range rows {
			kernels.AddScaled(e.sum[r*h:(r+1)*h], y[i*h:(i+1)*h], e.logits[r*s.p.Experts+x])
		}
	}
	s.addRows(e.sum)
}

// expert returns what one expert makes of the first rows rows gathered.
func (s *Step) expert(m *Mixture, x, rows int) []float32 {
	n, h := s.p.ExpertFFN, s.p.Hidden
	s.gate, s.up, s.y = grow(s.gate, rows*n), grow(s.up, rows*n), grow(s.y, rows*h)
	s.views = [3]kernels.Matrix{m.Gate.Part(x*n, n), m.Up.Part(x*n, n), m.Down.Part(x*h, h)}
	s.outs[0], s.outs[1] = s.gate, s.up
	s.mats[0], s.mats[1] = &s.views[0], &s.views[1]
	s.acts.Quantize(s.w, s.moe.in, rows, h)
	kernels.MatMul(s.w, s.outs[:2], &s.acts, s.mats[:2]...)
	addExpertBias(s.gate, m.GateBias, x, n, rows)
	addExpertBias(s.up, m.UpBias, x, n, rows)
	m.Act(s.gate, s.gate, s.up)
	s.acts.Quantize(s.w, s.gate, rows, n)
	s.product(s.y, &s.views[2])
	addExpertBias(s.y, m.DownBias, x, h, rows)
	return s.y
}

func addExpertBias(y, bias []float32, x, n, rows int) {
	if bias != nil {
		kernels.AddBias(y, bias[x*n:(x+1)*n], rows)
	}
}

// route finds the experts of every row and sorts the rows by expert.
func (s *Step) route(m *Mixture) {
	n, k, e := s.p.Experts, s.p.Chosen, &s.moe
	e.logits = grow(e.logits, s.rows*n)
	s.product(e.logits, m.Router)
	if m.RouterBias != nil {
		kernels.AddBias(e.logits, m.RouterBias, s.rows)
	}
	e.chosen, e.members = growInts(e.chosen, s.rows*k), growInts(e.members, s.rows*k)
	e.first = growInts(e.first, n+1)
	clear(e.first)
	for r := range s.rows {
		row, chosen := e.logits[r*n:(r+1)*n], e.chosen[r*k:(r+1)*k]
		largest(row, chosen)
		m.Weigh(row, chosen)
		for _, x := range chosen {
			e.first[x+1]++
		}
	}
	for x := range n {
		e.first[x+1] += e.first[x]
	}
	for i := len(e.chosen) - 1; i >= 0; i-- { // first[x+1] moves from the end of x to its beginning
		x := e.chosen[i] + 1
		e.first[x]--
		e.members[e.first[x]] = i / k
	}
	copy(e.first, e.first[1:])
	e.first[n] = s.rows * k
}

// largest puts the indices of the largest elements of x into at, ascending; of equal ones the first are taken.
func largest(x []float32, at []int) {
	n := 0
	for i, v := range x {
		if n == len(at) {
			low := 0
			for j := range at {
				if x[at[j]] <= x[at[low]] { // the last of the smallest
					low = j
				}
			}
			if !(v > x[at[low]]) {
				continue
			}
			copy(at[low:], at[low+1:])
			n--
		}
		at[n] = i
		n++
	}
}

// softmaxChosen weighs the chosen by the softmax over all, made to add up to one.
func softmaxChosen(logits []float32, chosen []int) {
	kernels.Softmax(logits)
	sum := float32(0)
	for _, x := range chosen {
		sum += logits[x]
	}
	for _, x := range chosen {
		logits[x] /= sum
	}
}

// growInts is grow for indices.
func growInts(b []int, n int) []int {
	if cap(b) < n {
		return make([]int, n)
	}
	return b[:n]
}
