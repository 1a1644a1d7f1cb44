package node

import (
	"hash/fnv"
	"time"

	"lamina/cluster/plan"
	"lamina/kernels"
	"lamina/node/blobs"
)

// The matrix that a node measures itself by: more than caches hold; for eight rows a quarter of it, and for long steps a
// sixteenth, for these are bound by arithmetic.
const (
	measureRows, measureCols = 16384, 4096 // 71 MB of Q8_0
	measureMany              = 64
)

// measureSpeed returns how fast this node gets packed weights through a product of one row, of eight and of many (what decoding,
// decoding together, and prefill are bound by), and what the products of a layer cost beside their bytes. Nodes compare by
// it when layers are dealt out, until there are steps of real models to go by. It takes less than 0.1 s; zero where it cannot
// be measured.
func measureSpeed(w *kernels.Workers) (r plan.Rates, layer time.Duration) {
	size, err := kernels.PackedSize(kernels.Q8_0, measureRows, measureCols)
	if err != nil {
		return r, 0
	}
	mem, err := blobs.New(int(size))
	if err != nil {
		return r, 0
	}
	defer func() { _ = mem.Close() }() // giving memory back has nothing to report
	data := mem.Bytes()
	for i := 0; i < len(data); i += 4096 {
		data[i] = 1 // memory that nobody has written to is one page of zeros, and always in the cache
	}
	rate := func(rows, batch, tries int) float64 {
		n := size * int64(rows) / measureRows
		best := productTime(w, data[:n], rows, measureCols, batch, tries)
		if best == 0 {
			return 0
		}
		return float64(n) / float64(best)
	}
	r = plan.Rates{One: rate(measureRows, 1, 3), Eight: rate(measureRows/4, 8, 2), Many: rate(measureRows/16, measureMany, 2) * measureMany}
	return r, layerCost(w)
}

// productsOfLayer is how many products a layer has.
const productsOfLayer = 7

// layerCost is what a layer's products take when they are too small to count.
func layerCost(w *kernels.Workers) time.Duration {
	size, err := kernels.PackedSize(kernels.Q8_0, 64, 64)
	if err != nil {
		return 0
	}
	return productTime(w, make([]byte, size), 64, 64, 1, 50) * productsOfLayer
}

// patience is how long a product may take for it to be tried again.
const patience = 20 * time.Millisecond

// productTime multiplies a matrix of Q8_0 with some rows, once and then in some tries, and returns the time of the fastest; of
// the first if that takes long, as it does without kernels in assembly.
func productTime(w *kernels.Workers, data []byte, rows, cols, batch, tries int) (best time.Duration) {
	m, err := kernels.NewMatrix(kernels.Q8_0, rows, cols, data)
	if err != nil {
		return 0
	}
	x, y := make([]float32, batch*cols), [][]float32{make([]float32, batch*rows)}
	var acts kernels.Acts
	acts.Quantize(w, x, batch, cols)
	for i := range tries + 1 {
		begun := time.Now()
		kernels.MatMul(w, y, &acts, m)
		d := time.Since(begun)
		if i == 1 || d < best || best == 0 {
			best = d // the first one finds the caches cold
		}
		if i == 0 && d > patience {
			break
		}
	}
	return best
}

// routeSeed makes the routers of one cluster agree, and those of different ones not.
func routeSeed(clusterID string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(clusterID)) // never fails
	return h.Sum64()
}
