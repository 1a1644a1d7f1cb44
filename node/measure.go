package node

import (
	"hash/fnv"
	"time"

	"lamina/kernels"
)

// measureSpeed returns how fast this node reads and multiplies packed weights, in GB/s: what a decode step is bound by.
// Nodes compare by it when layers are dealt out. It takes a few tens of milliseconds.
func measureSpeed(w *kernels.Workers) float64 {
	const rows, cols = 4096, 4096 // 17 MB of Q8_0: more than most second-level caches hold
	size, err := kernels.PackedSize(kernels.Q8_0, rows, cols)
	if err != nil {
		return 1
	}
	m, err := kernels.NewMatrix(kernels.Q8_0, rows, cols, make([]byte, size))
	if err != nil {
		return 1
	}
	x, y := make([]float32, cols), [][]float32{make([]float32, rows)}
	var acts kernels.Acts
	acts.Quantize(w, x, 1, cols)
	kernels.MatMul(w, y, &acts, m)
	best := time.Duration(1<<63 - 1)
	for range 5 {
		begun := time.Now()
		kernels.MatMul(w, y, &acts, m)
		best = min(best, time.Since(begun))
	}
	return float64(size) / float64(max(best, 1))
}

// routeSeed makes the routers of one cluster agree, and those of different ones not.
func routeSeed(clusterID string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(clusterID)) // never fails
	return h.Sum64()
}
