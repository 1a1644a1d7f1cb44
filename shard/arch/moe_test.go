package arch

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"lamina/kernels"
)

// largest takes what a stable sort would take, in the order of the indices.
func TestLargest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "n")
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(rapid.IntRange(-5, 5).Draw(t, "x"))
		}
		got := make([]int, rapid.IntRange(1, n).Draw(t, "k"))
		largest(x, got)
		order := make([]int, n)
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return int(x[b] - x[a]) })
		want := order[:len(got)]
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("of %v took %v, want %v", x, got, want)
		}
	})
	at := make([]int, 2)
	largest([]float32{float32(math.NaN()), 1, 2, 3}, at) // no more is asked than that they exist
	if at[0] < 0 || at[1] > 3 || at[0] >= at[1] {
		t.Errorf("beside NaN: %v", at)
	}
}

// Every row stands with each of its experts, once, and in order.
func TestRoute(t *testing.T) {
	w := kernels.NewWorkers(1)
	defer w.Close()
	p := params
	p.Experts, p.Chosen = 5, 2
	s := NewStep(p, 0, w)
	router, err := kernels.NewMatrix(kernels.F32, 5, p.Hidden, make([]byte, 16*p.Hidden*4))
	if err != nil {
		t.Fatal(err)
	}
	for _, rows := range []int{3, 1, 40} {
		s.rows = rows
		x := make([]float32, rows*p.Hidden)
		s.acts.Quantize(w, x, rows, p.Hidden)
		bias := []float32{1, 0, 3, 2, 3} // experts 2 and 4 for all
		s.route(&Mixture{Router: router, RouterBias: bias, Weigh: softmaxAmong})
		e := &s.moe
		if e.first[5] != 2*rows || e.first[2] != 0 || e.first[3] != rows || e.first[4] != rows {
			t.Fatalf("%d rows: experts begin at %v", rows, e.first)
		}
		for i, m := range e.members[:2*rows] {
			if m != i%rows {
				t.Fatalf("%d rows: members %v", rows, e.members)
			}
		}
		if e.logits[2] != 0.5 || e.logits[4] != 0.5 {
			t.Errorf("weights %v", e.logits[:5])
		}
	}
}
