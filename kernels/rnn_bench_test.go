package kernels

import (
	"fmt"
	"testing"
)

// BenchmarkRNN takes one step of one row: the recurrent product and the cell.
func BenchmarkRNN(b *testing.B) {
	w := NewWorkers(1)
	for _, n := range []int{128, 256, 512} {
		r := normals(1, 4*n*n)
		for i := range r {
			r[i] /= 32
		}
		gates, in, h, c := make([]float32, 4*n), normals(2, 4*n), make([]float32, n), make([]float32, n)
		l, _ := NewLSTM(n, r, nil)
		gru, _ := NewGRU(n, r[:3*n*n], nil, true)
		b.Run(fmt.Sprintf("LSTM/%d", n), func(b *testing.B) {
			eachFast(b, func(b *testing.B) {
				flops(b, 8*n*n, func() {
					copy(gates, in)
					l.Step(w, h, c, gates, 1)
				})
			})
		})
		b.Run(fmt.Sprintf("GRU/%d", n), func(b *testing.B) {
			eachFast(b, func(b *testing.B) {
				flops(b, 6*n*n, func() {
					copy(gates, in)
					gru.Step(w, h, gates[:3*n], c, 1)
				})
			})
		})
	}
	x := normals(3, 1<<12)
	b.Run("Tanh", func(b *testing.B) { perElement(b, len(x), func() { Tanh(x) }) })
	b.Run("Sigmoid", func(b *testing.B) { perElement(b, len(x), func() { Sigmoid(x) }) })
}
