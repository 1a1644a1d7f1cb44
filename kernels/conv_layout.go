package kernels

import "fmt"

// ChannelsLast turns n inputs [channels][pixels] into [pixels][channels], the layout that convolutions and pooling read and
// write. It panics when x or y is too short.
func ChannelsLast(w *Workers, y, x []float32, n, channels, pixels int) {
	transposeAll(w, y, x, n, channels, pixels)
}

// ChannelsFirst turns n results [pixels][channels] into [channels][pixels], ONNX's layout. It panics when x or y is too short.
func ChannelsFirst(w *Workers, y, x []float32, n, channels, pixels int) {
	transposeAll(w, y, x, n, pixels, channels)
}

// transposeAll transposes n matrices of rows x cols.
func transposeAll(w *Workers, y, x []float32, n, rows, cols int) {
	size := rows * cols
	if n < 0 || rows < 0 || cols < 0 || len(x) < n*size || len(y) < n*size {
		panic(fmt.Sprintf("kernels: %d and %d floats for %d matrices of %d x %d", len(y), len(x), n, rows, cols))
	}
	if n*size == 0 {
		return
	}
	strips := max(1, min((cols+15)/16, size>>14)) // of columns, multiples of 16 wide
	w.Do(n*strips, func(part int) {
		i, s := part/strips, part%strips
		blocks := (cols + 15) / 16
		from, to := blocks*s/strips*16, min(cols, blocks*(s+1)/strips*16)
		transpose(y[i*size+from*rows:(i+1)*size], rows, x[i*size+from:(i+1)*size], cols, rows, to-from)
	})
}

// transpose writes dst[c*ldd+r] = src[r*lds+c] for rows x cols elements.
func transpose(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	if rows == 0 || cols == 0 {
		return
	}
	dst, src = dst[:(cols-1)*ldd+rows], src[:(rows-1)*lds+cols]
	r8 := transposeFast(dst, ldd, src, lds, rows, cols)
	c8 := cols &^ 7
	if r8 == 0 {
		c8 = 0
	}
	plain := func(r0, r1, c0, c1 int) {
		for r := r0; r < r1; r++ {
			for c := c0; c < c1; c++ {
				dst[c*ldd+r] = src[r*lds+c]
			}
		}
	}
	plain(0, r8, c8, cols)
	const step = 32 // columns whose lines stay in the first-level cache
	for c := 0; c < cols; c += step {
		plain(r8, rows, c, min(c+step, cols))
		safepoint()
	}
}
