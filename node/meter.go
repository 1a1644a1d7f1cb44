package node

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"time"

	"lamina/cluster/gossip"
	"lamina/cluster/plan"
)

// A meter keeps what this node measures while it works, for the planner: how fast real steps get the weights of each model
// through, and how fast bytes come in from others. Safe for concurrent use.
type meter struct {
	mu     sync.Mutex
	models map[string]*modelMeter // by digest
	net    float64                // bytes a nanosecond
	told   float64                // net, as others know it
}

// modelMeter is what was measured of one model.
type modelMeter struct {
	one, eight, many window
	told             plan.Rates
	sequences        int
}

func newMeter() *meter { return &meter{models: map[string]*modelMeter{}} }

// steps are counted as steps of eight rows if they have about so many, and as long ones from a number on.
const (
	eightLeast, eightMost = 6, 10
	manyLeast             = 64
)

// step notes a step of the model: its rows, and the bytes of weights for rows of answers and of prompts.
func (m *meter) step(digest string, rows int, answer, prompt float64, took time.Duration) {
	if took <= 0 || rows < 1 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	mm := m.model(digest)
	switch {
	case rows == 1:
		mm.one.add(answer / float64(took))
	case rows >= eightLeast && rows <= eightMost:
		mm.eight.add(answer / float64(took))
	case rows >= manyLeast:
		mm.many.add(prompt * float64(rows) / float64(took))
	}
}

// sequence notes that a sequence of the model was opened (1) or freed (-1).
func (m *meter) sequence(digest string, change int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.model(digest).sequences += change
}

// forget drops a model that this node does not run any more.
func (m *meter) forget(digest string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if mm := m.models[digest]; mm != nil && mm.sequences == 0 {
		delete(m.models, digest)
	}
}

// model is called with the lock held.
func (m *meter) model(digest string) *modelMeter {
	mm := m.models[digest]
	if mm == nil {
		mm = &modelMeter{}
		m.models[digest] = mm
	}
	return mm
}

// received notes bytes that came from another node. A transfer can only be slower than the line: less counts for little.
func (m *meter) received(bytes int64, took time.Duration) {
	if took <= 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	rate := float64(bytes) / float64(took)
	if rate < m.net {
		rate = m.net + (rate-m.net)/10
	}
	m.net = rate
}

// fetched notes a transfer that was also bound by disks and hashing: the line is at least as fast.
func (m *meter) fetched(bytes int64, took time.Duration) {
	if took <= 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.net = max(m.net, float64(bytes)/float64(took))
}

// A small change is not told: everybody in the cluster would hear of it.
const (
	newsOfRate = 1.1
	newsOfNet  = 1.25
)

// report returns what others are to know of the models and the line.
func (m *meter) report() (models string, net float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []gossip.ModelRates
	for digest, mm := range m.models {
		t := &mm.told
		t.One, t.Eight, t.Many = news(t.One, mm.one.rate(), newsOfRate), news(t.Eight, mm.eight.rate(), newsOfRate), news(t.Many, mm.many.rate(), newsOfRate)
		if t.One > 0 || t.Many > 0 || mm.sequences > 0 {
			list = append(list, gossip.ModelRates{Model: digest, One: t.One, Eight: t.Eight, Many: t.Many, Sequences: mm.sequences})
		}
	}
	slices.SortFunc(list, func(a, b gossip.ModelRates) int { return cmp.Compare(a.Model, b.Model) })
	m.told = news(m.told, m.net, newsOfNet)
	return gossip.PackModels(list), m.told
}

// news is the new value if it differs by the factor.
func news(old, now, factor float64) float64 {
	if old == 0 || now == 0 || math.Max(old/now, now/old) > factor {
		return now
	}
	return old
}

// window is the last measurements of something. What disturbs a measurement makes it slower, so the estimate is one that a
// quarter of them reach.
type window struct {
	ring [32]float64
	n    int // measurements so far
}

// fewest measurements that make an estimate.
const fewest = 4

func (w *window) add(v float64) {
	w.ring[w.n%len(w.ring)] = v
	w.n++
}

// rate is the estimate; 0 while there are too few.
func (w *window) rate() float64 {
	if w.n < fewest {
		return 0
	}
	all := w.ring
	s := all[:min(w.n, len(all))]
	slices.Sort(s)
	return s[len(s)*3/4]
}
