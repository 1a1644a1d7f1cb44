package node

import (
	"hash/fnv"
	"time"

	"lamina/cluster/plan"
	"lamina/kernels"
)

// measureSpeed returns how fast this node gets packed weights through a product of one row, of eight and of many (what decoding,
// decoding together, and prefill are bound by), and what the products of a layer cost beside their bytes. Nodes compare by
// it when layers are dealt out, until there are steps of real models to go by. It takes about 0.1 s.
func measureSpeed(w *kernels.Workers) (plan.Rates, time.Duration) {
	const rows, cols, many = 4096, 4096, 64 // 17 MB of Q8_0: more than most second-level caches hold
	return plan.Rates{
		One:   productRate(w, rows, cols, 1, 5),
		Eight: productRate(w, rows, cols, 8, 3),
		Many:  productRate(w, rows, cols, many, 2) * many,
	}, layerCost(w)
}

// productRate is bytes of weights a nanosecond, at best of some tries; 0 if it cannot be measured.
func productRate(w *kernels.Workers, rows, cols, batch, tries int) float64 {
	size, best := productTime(w, rows, cols, batch, tries)
	if best == 0 {
		return 0
	}
	return float64(size) / float64(best)
}

// productsOfLayer is how many products a layer has.
const productsOfLayer = 7

// layerCost is what a layer's products take when they are too small to count.
func layerCost(w *kernels.Workers) time.Duration {
	_, best := productTime(w, 64, 64, 1, 50)
	return best * productsOfLayer
}

// productTime multiplies a matrix of Q8_0 with some rows and returns its bytes and the time of the fastest try.
func productTime(w *kernels.Workers, rows, cols, batch, tries int) (size int64, best time.Duration) {
	size, err := kernels.PackedSize(kernels.Q8_0, rows, cols)
	if err != nil {
		return 0, 0
	}
	m, err := kernels.NewMatrix(kernels.Q8_0, rows, cols, make([]byte, size))
	if err != nil {
		return 0, 0
	}
	x, y := make([]float32, batch*cols), [][]float32{make([]float32, batch*rows)}
	var acts kernels.Acts
	acts.Quantize(w, x, batch, cols)
	kernels.MatMul(w, y, &acts, m)
	for i := range tries {
		begun := time.Now()
		kernels.MatMul(w, y, &acts, m)
		if d := time.Since(begun); i == 0 || d < best {
			best = d
		}
	}
	return size, best
}

// routeSeed makes the routers of one cluster agree, and those of different ones not.
func routeSeed(clusterID string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(clusterID)) // never fails
	return h.Sum64()
}
