package node

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"lamina/shard/pipeline"
)

func TestBudgetSharesWhatWeightsLeave(t *testing.T) {
	b := &budget{total: 100 << 20}
	if err := b.takeWeights(60 << 20); err != nil {
		t.Fatal(err)
	}
	var room errNoRoom
	if err := b.takeWeights(50 << 20); !errors.As(err, &room) || !strings.Contains(err.Error(), "40 MiB") {
		t.Errorf("weights over the budget: %v", err)
	}
	if err := b.takeKV(30 << 20); err != nil {
		t.Fatal(err)
	}
	if err := b.takeKV(11 << 20); !errors.Is(err, pipeline.ErrNoMemory) || !strings.Contains(err.Error(), "11 MiB") || !strings.Contains(err.Error(), "10 MiB") {
		t.Errorf("a cache over the budget: %v", err)
	}
	b.giveKV(30 << 20)
	b.giveWeights(60 << 20)
	if got := b.free(); got != 100<<20 {
		t.Errorf("%d bytes are free when everything was given back", got)
	}
}

// Whatever is taken and given back, no more than the total is out at any time, and all of it comes back.
func TestBudgetNeverExceeded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := &budget{total: 1000}
		var weights, caches []int64
		var out int64
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			n := rapid.Int64Range(0, 400).Draw(t, "n")
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				// Weights may push out room that caches have reserved: those keep it until they end.
				if b.takeWeights(n) == nil {
					weights, out = append(weights, n), out+n
				}
			case 1:
				if b.takeKV(n) == nil {
					if caches, out = append(caches, n), out+n; out > b.total {
						t.Fatalf("%d of %d bytes are out after a cache was admitted", out, b.total)
					}
				}
			case 2:
				if k := len(weights); k > 0 {
					b.giveWeights(weights[k-1])
					out -= weights[k-1]
					weights = weights[:k-1]
				}
			case 3:
				if k := len(caches); k > 0 {
					b.giveKV(caches[k-1])
					out -= caches[k-1]
					caches = caches[:k-1]
				}
			}
			if got := b.free(); got != max(0, b.total-out) {
				t.Fatalf("%d bytes are free, %d are out of %d", got, out, b.total)
			}
		}
	})
}
