package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"lamina/shard"
)

// A budget is the memory that this node gives to weights and KV caches. Weights are taken by the keeper when it loads a
// span; what they leave is shared by the caches of all stages (kv), whose shards take it block by block. The planner counts
// on less (plan.SpanBytes reserves KV room for each placement), so a loaded span always leaves some room; a model that
// nobody asks leaves its part to the others.
type budget struct {
	total int64
	kv    *shard.KVMemory
	mu    struct {
		sync.Mutex
		weights int64
	}
}

func newBudget(total int64) *budget {
	return &budget{total: total, kv: shard.NewKVMemory(max(1, total))}
}

// errNoRoom: the weights of a span do not fit this node.
type errNoRoom struct{ need, free int64 }

func (e errNoRoom) Error() string {
	return fmt.Sprintf("the span's weights take %d MiB, %d MiB of this node's memory are free", e.need>>20, e.free>>20)
}

// takeWeights takes memory for weights. What caches keep for later gives way at once, what sequences hold when they end.
func (b *budget) takeWeights(n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if free := b.total - b.mu.weights; n > free {
		return errNoRoom{n, free}
	}
	b.setWeights(b.mu.weights + n)
	return nil
}

func (b *budget) giveWeights(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.setWeights(b.mu.weights - n)
}

func (b *budget) setWeights(n int64) {
	b.mu.weights = n
	b.kv.SetBudget(max(1, b.total-n)) // a byte is room for nothing; zero would be no bound
}

// restEvery is how often empty blocks of caches are looked at; those that nobody needed in between go back to the system.
const restEvery = 30 * time.Second

// rest runs until ctx ends.
func (b *budget) rest(ctx context.Context) {
	tick := time.NewTicker(restEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			b.kv.Rest()
		}
	}
}

// free is what neither weights nor sequences take.
func (b *budget) free() int64 {
	weights, kv := b.used()
	return max(0, b.total-weights-kv)
}

// used is what weights and sequences take. What is cached is not counted, for it gives way to both.
func (b *budget) used() (weights, kv int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, kv = b.kv.Bytes()
	return b.mu.weights, kv
}
