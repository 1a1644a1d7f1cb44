package kernels

import (
	"math"
	"sync"
	"sync/atomic"
)

// RopeStyle says which elements of a head are rotated together.
type RopeStyle uint8

const (
	Interleaved RopeStyle = iota // elements 2i and 2i+1 (llama in GGUF)
	Halves                       // elements i and i+dim/2 (NeoX, qwen2)
)

// RopeKind says how the frequencies of a RopeTable are stretched for contexts longer than the trained one.
type RopeKind uint8

const (
	RopeNone   RopeKind = iota
	RopeLinear          // every frequency is divided by Factor (Chen et al., "Extending Context Window", 2023)
	RopeLlama3          // low frequencies are divided by Factor, high ones kept, those between blended (Llama 3.1)
	RopeYarn            // Peng et al., "YaRN", 2023: as Llama3 with a ramp over dimensions, and a scaled magnitude
)

// RopeScaling changes the frequencies of a RopeTable. The zero value changes nothing.
type RopeScaling struct {
	Kind     RopeKind
	Factor   float64 // how many times longer the context becomes; <= 0 is 1
	Original int     // the trained context (Llama3, Yarn)
	Low      float64 // Llama3: wavelengths over Original/Low are stretched by Factor; <= 0 is 1
	High     float64 // Llama3: wavelengths under Original/High are kept; <= Low is 4*Low
	BetaFast float64 // Yarn: turns in Original over which a dimension is kept; <= 0 is 32
	BetaSlow float64 // Yarn: turns in Original under which a dimension is stretched; <= 0 is 1
	Exact    bool    // Yarn: the ramp's ends are not rounded to whole dimensions (gpt-oss)
	Attn     float64 // Yarn: further factor of the magnitude; <= 0 is 1

	// Factors divides frequency i by Factors[i]: the tensor rope_freqs.weight. Those missing or not positive count
	// as 1.
	Factors []float32
}

// ropePages bounds the positions whose angles are kept: 2^20. Those beyond are computed at each use.
const ropePages = 1 << 20 / pageLen

// RopeTable rotates queries and keys by their positions (Su et al., "RoFormer", 2021). Angles, sines and cosines are
// made in float64 by our own functions, so that the bits do not depend on the CPU; they are kept by pages of 64
// positions, made at first use. It may be used by several goroutines.
type RopeTable struct {
	dim   int
	freq  []float64
	mag   float64
	mu    sync.Mutex
	pages atomic.Pointer[[]*ropePage]
}

// ropePage holds, for each of its positions, dim/2 cosines and then dim/2 sines.
type ropePage struct{ cosSin []float32 }

// NewRopeTable returns the table that rotates the first dim elements of a head, in pairs with frequencies
// base^(-2i/dim), i = 0 to dim/2-1. An odd dim is taken as dim-1.
func NewRopeTable(dim int, base float64, scaling RopeScaling) *RopeTable {
	dim = max(dim, 0) / 2 * 2
	t := &RopeTable{dim: dim, freq: make([]float64, dim/2), mag: 1}
	lnBase := ln64(base)
	for i := range t.freq {
		t.freq[i] = exp64(-float64(lnBase*float64(2*i)) / float64(dim))
		if i < len(scaling.Factors) && scaling.Factors[i] > 0 {
			t.freq[i] /= float64(scaling.Factors[i])
		}
	}
	t.pages.Store(new([]*ropePage))
	scaling = scaling.withDefaults()
	switch scaling.Kind {
	case RopeLinear:
		for i := range t.freq {
			t.freq[i] /= scaling.Factor
		}
	case RopeLlama3:
		t.llama3(scaling)
	case RopeYarn:
		t.yarn(scaling, lnBase)
	}
	return t
}

func (s RopeScaling) withDefaults() RopeScaling {
	def := func(v *float64, d float64) {
		if !(*v > 0) {
			*v = d
		}
	}
	def(&s.Factor, 1)
	def(&s.Low, 1)
	if !(s.High > s.Low) {
		s.High = 4 * s.Low
	}
	def(&s.BetaFast, 32)
	def(&s.BetaSlow, 1)
	def(&s.Attn, 1)
	return s
}

// llama3 blends by how many turns a frequency makes in the trained context: fewer than Low stretched, more than High
// kept.
func (t *RopeTable) llama3(s RopeScaling) {
	for i, f := range t.freq {
		turns := float64(float64(s.Original)*f) / (2 * math.Pi)
		t.freq[i] = blend(f/s.Factor, f, (turns-s.Low)/(s.High-s.Low))
	}
}

// yarn blends by a ramp over dimensions between those that make BetaFast and BetaSlow turns in the trained context.
func (t *RopeTable) yarn(s RopeScaling, lnBase float64) {
	at := func(turns float64) float64 {
		d := float64(t.dim) * ln64(float64(max(s.Original, 1))/float64(turns*2*math.Pi)) / (2 * lnBase)
		return min(max(d, 0), float64(t.dim-1))
	}
	low, high := at(s.BetaFast), at(s.BetaSlow)
	if !s.Exact {
		low, high = math.Floor(low), math.Ceil(high)
	}
	for i, f := range t.freq {
		ramp := (float64(i) - low) / max(0.001, high-low)
		t.freq[i] = blend(f, f/s.Factor, ramp)
	}
	t.mag = float64(s.Attn * math.FMA(0.1, ln64(s.Factor), 1))
}

// blend goes from a to b as at goes from 0 to 1.
func blend(a, b, at float64) float64 {
	at = min(max(at, 0), 1)
	return math.FMA(at, b, float64((1-at)*a))
}

// Apply rotates heads consecutive heads of headDim elements for position pos >= 0, in place. headDim is at least the
// table's dim; the elements of a head beyond it stay as they are.
func (t *RopeTable) Apply(x []float32, heads, headDim, pos int, style RopeStyle) {
	half := t.dim / 2
	cosSin := t.at(pos)
	for h := range heads {
		head := x[h*headDim : h*headDim+t.dim]
		if style == Halves {
			ropeHalves(head[:half], head[half:], cosSin[:half], cosSin[half:])
		} else {
			ropePairs(head, cosSin[:half], cosSin[half:])
		}
	}
}

func ropeHalves(a, b, cos, sin []float32) {
	for i := ropeHalvesFast(a, b, cos, sin); i < len(cos); i++ {
		a[i], b[i] = rotate(a[i], b[i], cos[i], sin[i])
	}
}

func ropePairs(x, cos, sin []float32) {
	for i := ropePairsFast(x, cos, sin); i < len(cos); i++ {
		x[2*i], x[2*i+1] = rotate(x[2*i], x[2*i+1], cos[i], sin[i])
	}
}

// rotate turns (a, b): in each sum the product with the sine is rounded first, then added by a fused multiply-add.
func rotate(a, b, cos, sin float32) (float32, float32) {
	return fma32(a, cos, -float32(b*sin)), fma32(b, cos, float32(a*sin))
}

// at returns the cosines and sines of one position.
func (t *RopeTable) at(pos int) []float32 {
	page := pos / pageLen
	if pos < 0 || page >= ropePages {
		cs := make([]float32, t.dim)
		t.fill(cs, pos)
		return cs
	}
	pages := *t.pages.Load()
	if page >= len(pages) || pages[page] == nil {
		pages = t.grow(page)
	}
	slot := pos % pageLen
	return pages[page].cosSin[slot*t.dim : (slot+1)*t.dim]
}

// grow adds a page; the list is replaced, never changed, so that at needs no lock.
func (t *RopeTable) grow(page int) []*ropePage {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := *t.pages.Load()
	if page < len(old) && old[page] != nil {
		return old
	}
	pages := make([]*ropePage, max(len(old), page+1))
	copy(pages, old)
	p := &ropePage{cosSin: make([]float32, pageLen*t.dim)}
	for slot := range pageLen {
		t.fill(p.cosSin[slot*t.dim:(slot+1)*t.dim], page*pageLen+slot)
	}
	pages[page] = p
	t.pages.Store(&pages)
	return pages
}

func (t *RopeTable) fill(cosSin []float32, pos int) {
	half := t.dim / 2
	for i, f := range t.freq {
		sin, cos := sincos64(float64(float64(max(pos, 0)) * f))
		cosSin[i], cosSin[half+i] = float32(float64(cos*t.mag)), float32(float64(sin*t.mag))
	}
}
