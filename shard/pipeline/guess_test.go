package pipeline

import (
	"slices"
	"testing"
	"time"
)

func TestGuesserFindsWhatFollowed(t *testing.T) {
	var g guesser
	g.add(false, 1, 2, 3, 4, 5, 9, 9, 1, 2, 3)
	to := make([]int32, 4)
	if n := g.guess(to); n != 4 || !slices.Equal(to, []int32{4, 5, 9, 9}) {
		t.Errorf("after 1 2 3: %v", to[:n])
	}
	g.add(true, 7)
	if n := g.guess(to); n != 0 {
		t.Errorf("after 2 3 7, which is new: %v", to[:n])
	}
	g.add(true, 1, 2, 3)
	if n := g.guess(to[:1]); n != 1 || to[0] != 7 {
		t.Errorf("after 1 2 3 again: %v, want what followed the last time", to[:n])
	}
}

// Guessing depends on how often guesses are right and on what rows more cost, and stops by itself when either is bad.
func TestGuessesArePaidFor(t *testing.T) {
	flat := func(k int) (float64, bool) { return 100 + float64(k), true }
	steep := func(k int) (float64, bool) { return 100 + 90*float64(k), true }
	unknown := func(k int) (float64, bool) { return 100 * float64(1+k), k == 0 }
	for _, c := range []struct {
		name        string
		right       float64
		n           int
		round       func(int) (float64, bool)
		since       int
		least, most int
	}{
		{"always right, almost free", 1, 1, flat, 0, 7, 7},
		{"mostly right, almost free", 0.7, 1, flat, 0, 4, 7},
		{"never right", 0, 1, flat, 0, 0, 0},
		{"right half the time, dear", 0.5, 1, steep, 0, 0, 0},
		{"always right, dear", 1, 1, steep, 0, 0, 7},
		{"the others of the group pay too", 0.6, 16, func(k int) (float64, bool) { return 100 + 10*float64(k), true }, 0, 0, 0},
		{"not measured, and tried lately", 0.9, 1, unknown, 3, 0, 0},
		{"not measured, and not tried for long", 0.9, 1, unknown, guessProbe, 1, 7},
	} {
		g := guesser{right: c.right, since: c.since}
		if k := g.worth(7, c.n, c.round); k < c.least || k > c.most {
			t.Errorf("%s: %d guesses, want %d to %d", c.name, k, c.least, c.most)
		}
	}
}

// In virtual time: where rows more cost little, an answer that can be guessed comes much faster, and one that cannot, or whose rows cost
// what they are worth, not slower.
func TestFlowGuessesPay(t *testing.T) {
	for _, c := range []struct {
		name  string
		rhyme bool
		cost  func(rows, decodes int) time.Duration
		hops  int
		wire  time.Duration
		least float64
	}{
		{"memory-bound", true, steps(5*time.Millisecond, 0, 200*time.Microsecond), 1, 0, 1.25},
		{"memory-bound, two stages", true, steps(5*time.Millisecond, 0, 200*time.Microsecond), 2, 100 * time.Microsecond, 1.25},
		{"compute-bound, far apart", true, steps(0, 0, time.Millisecond), 2, 10 * time.Millisecond, 1.15},
		{"compute-bound", true, steps(0, 0, time.Millisecond), 1, 0, 0.96},
		{"cannot be guessed", false, steps(5*time.Millisecond, 0, 200*time.Microsecond), 2, 100 * time.Microsecond, 0.98},
	} {
		var took [2]time.Duration
		for i, guesses := range []int{-1, 7} {
			f := newFlow(t, c.hops, c.wire, Limits{Guesses: guesses}, c.cost)
			for _, s := range f.stages {
				s.fake.rhyme = c.rhyme
			}
			r := f.ask(f.request(1, 60, 500))
			f.run(0)
			if len(r.ids) != 500 {
				t.Fatalf("%s: %d tokens", c.name, len(r.ids))
			}
			took[i] = r.times[499].Sub(r.times[0])
		}
		gain := took[0].Seconds() / took[1].Seconds()
		t.Logf("%s: %.2f x", c.name, gain)
		if gain < c.least {
			t.Errorf("%s: %.2f x as fast as without guesses, want %.2f x", c.name, gain, c.least)
		}
	}
}
