package kernels

import "math"

// lanes is the number of partial sums of every reduction over elements: element i goes to lane i%16, and laneSum
// adds the lanes by one fixed tree. It is one AVX-512 register, two AVX2 registers, four NEON registers or an array
// here, so that all of them give the same bits.
const lanes = 16

// stretch is how many elements are done without a break for the scheduler, which cannot interrupt assembly: some 10 us.
const stretch = 1 << 14

// The functions named ...Fast do the first elements by assembly, if the level in use has it, and return how many they
// did: a multiple of 16, so that element i%16 is in lane 0 after them as well. The loop that follows each of them is the
// truth, for the rest or for all.

// RMSNorm writes y = x / sqrt(mean(x*x) + eps) * weight for each of rows rows of cols elements (Zhang and Sennrich,
// "Root Mean Square Layer Normalization", 2019). weight has cols elements. y may be x.
func RMSNorm(y, x, weight []float32, rows, cols int, eps float32) {
	if cols <= 0 || rows <= 0 {
		return
	}
	y, x, weight = y[:rows*cols], x[:rows*cols], weight[:cols]
	for r := range rows {
		rmsNormRow(y[r*cols:(r+1)*cols], x[r*cols:(r+1)*cols], weight, eps)
		safepoint()
	}
}

func rmsNormRow(y, x, weight []float32, eps float32) {
	var acc [lanes]float32
	for i := squaresFast(&acc, x); i < len(x); i++ {
		acc[i%lanes] = fma32(x[i], x[i], acc[i%lanes])
	}
	inv := rmsScale(laneSum(&acc), len(x), eps)
	for i := scaleMulFast(y, x, weight, inv); i < len(x); i++ {
		y[i] = float32(x[i]*inv) * weight[i]
	}
}

// rmsScale is the factor of a row whose squares add up to sum. The square root goes through float64, which rounds a
// float32's root correctly.
func rmsScale(sum float32, cols int, eps float32) float32 {
	mean := sum / float32(cols)
	return 1 / float32(math.Sqrt(float64(mean+eps)))
}

// laneSum adds the lanes in halves: lane i takes lane i+8, then i+4, i+2, i+1.
func laneSum(a *[lanes]float32) float32 {
	s := *a
	for half := lanes / 2; half > 0; half /= 2 {
		for i := range half {
			s[i] += s[i+half]
		}
	}
	return s[0]
}

// scaleInto writes y = x * s. y is as long as x, and may be x.
func scaleInto(y, x []float32, s float32) {
	for i := scaleFast(y, x, s); i < len(x); i++ {
		y[i] = x[i] * s
	}
}

// Add adds x to y, element by element. x has at least as many elements as y.
func Add(y, x []float32) {
	x = x[:len(y)]
	for from := 0; from < len(y); from += stretch {
		to := min(from+stretch, len(y))
		add(y[from:to], x[from:to])
		safepoint()
	}
}

func add(y, x []float32) {
	for i := addFast(y, x); i < len(y); i++ {
		y[i] += x[i]
	}
}

// AddBias adds bias to each of rows rows of y, whose rows are as long as bias.
func AddBias(y, bias []float32, rows int) {
	for r := range rows {
		Add(y[r*len(bias):(r+1)*len(bias)], bias)
	}
}

// SiluMul writes y = silu(gate) * up with silu(g) = g / (1 + exp(-g)) (Shazeer, "GLU Variants Improve Transformer",
// 2020). gate and up have at least as many elements as y; y may be gate or up.
func SiluMul(y, gate, up []float32) {
	gate, up = gate[:len(y)], up[:len(y)]
	for from := 0; from < len(y); from += stretch {
		to := min(from+stretch, len(y))
		siluMul(y[from:to], gate[from:to], up[from:to])
		safepoint()
	}
}

func siluMul(y, gate, up []float32) {
	for i := siluMulFast(y, gate, up); i < len(y); i++ {
		d := 1 + exp32(-gate[i])
		y[i] = float32(gate[i]/d) * up[i]
	}
}
