package kernels

import "math"

// The constants of GeluMul: twice the square root of 2/pi, and that times 0.044715. Those of GELU: the root of 1/2, and
// the approximation of erf by Hastings (Abramowitz and Stegun, "Handbook of Mathematical Functions", 7.1.26).
const (
	geluC1   = float32(1.5957691216057308)
	geluC3   = float32(0.07135481282553614)
	geluRoot = float32(0.7071067811865476)
	erfP     = float32(0.3275911)
	erfA1    = float32(0.254829592)
	erfA2    = float32(-0.284496736)
	erfA3    = float32(1.421413741)
	erfA4    = float32(-1.453152027)
	erfA5    = float32(1.061405429)
)

// GeluMul writes y = gelu(gate) * up (Shazeer, "GLU Variants Improve Transformer", 2020) with the approximation of
// Hendrycks and Gimpel ("Gaussian Error Linear Units", 2016): gelu(g) = g/2 * (1 + tanh(sqrt(2/pi) * (g + 0.044715 g^3))),
// computed as g / (1 + exp(-(c1*g + c3*g^3))), which is the same. gate and up have at least as many elements as y; y may
// be gate or up.
func GeluMul(y, gate, up []float32) {
	gate, up = gate[:len(y)], up[:len(y)]
	for from := 0; from < len(y); from += stretch {
		to := min(from+stretch, len(y))
		geluMul(y[from:to], gate[from:to], up[from:to])
		safepoint()
	}
}

func geluMul(y, gate, up []float32) {
	for i := geluMulFast(y, gate, up); i < len(y); i++ {
		g := gate[i]
		t := fma32(float32(g*g), geluC3, geluC1)
		d := 1 + exp32(-float32(t*g))
		y[i] = float32(g/d) * up[i]
	}
}

// GELU turns each x into x * (1 + erf(x/sqrt(2))) / 2 (Hendrycks and Gimpel, 2016), within 3.1e-7*|x| of it.
func GELU(x []float32) {
	for from := 0; from < len(x); from += stretch {
		geluErf(x[from:min(from+stretch, len(x))])
		safepoint()
	}
}

func geluErf(x []float32) {
	for i := geluErfFast(x); i < len(x); i++ {
		v := x[i]
		z := float32(math.Float32frombits(math.Float32bits(v)&^(1<<31)) * geluRoot)
		t := 1 / fma32(z, erfP, 1)
		p := fma32(t, erfA5, erfA4)
		p = fma32(t, p, erfA3)
		p = fma32(t, p, erfA2)
		p = fma32(t, p, erfA1)
		p = float32(t * p)
		half := 0.5 - float32(float32(p*exp32(-float32(z*z)))*0.5)
		if math.Signbit(float64(v)) {
			half = -half
		}
		x[i] = v * (0.5 + half)
	}
}

// LayerNorm writes y = (x-mean) / sqrt(variance + eps) * weight + bias for each of rows rows of cols elements (Ba et
// al., "Layer Normalization", 2016). weight and bias have cols elements. y may be x.
func LayerNorm(y, x, weight, bias []float32, rows, cols int, eps float32) {
	if cols <= 0 || rows <= 0 {
		return
	}
	y, x, weight, bias = y[:rows*cols], x[:rows*cols], weight[:cols], bias[:cols]
	for r := range rows {
		layerNormRow(y[r*cols:(r+1)*cols], x[r*cols:(r+1)*cols], weight, bias, eps)
		safepoint()
	}
}

func layerNormRow(y, x, weight, bias []float32, eps float32) {
	var acc [lanes]float32
	for i := sumsFast(&acc, x); i < len(x); i++ {
		acc[i%lanes] += x[i]
	}
	mean := laneSum(&acc) / float32(len(x))
	for i := lessFast(y, x, mean); i < len(x); i++ {
		y[i] = x[i] - mean
	}
	acc = [lanes]float32{}
	for i := squaresFast(&acc, y); i < len(y); i++ {
		acc[i%lanes] = fma32(y[i], y[i], acc[i%lanes])
	}
	inv := rmsScale(laneSum(&acc), len(x), eps)
	for i := scaleMulFast(y, y, weight, inv); i < len(y); i++ {
		y[i] = float32(y[i]*inv) * weight[i]
	}
	add(y, bias)
}

// SoftCap turns each x into top * tanh(x/top), top > 0 (Bello et al., "Neural Combinatorial Optimization", 2016),
// computed as top - 2*top/(1 + exp(2x/top)): within 1e-7*top of it.
func SoftCap(x []float32, top float32) {
	for from := 0; from < len(x); from += stretch {
		softCap(x[from:min(from+stretch, len(x))], top)
		safepoint()
	}
}

func softCap(x []float32, top float32) {
	c := [3]float32{top, 2 / top, 2 * top}
	for i := softCapFast(x, &c); i < len(x); i++ {
		d := 1 + exp32(float32(x[i]*c[1]))
		x[i] = c[0] - float32(c[2]/d)
	}
}

// AddScaled adds x*s to y and leaves x*s in x, element by element. x has at least as many elements as y.
func AddScaled(y, x []float32, s float32) {
	x = x[:len(y)]
	scaleInto(x, x, s)
	Add(y, x)
}

// Scale multiplies every element of x by s.
func Scale(x []float32, s float32) { scaleInto(x, x, s) }

// ClampedGLU writes y = g/(1+exp(-slope*g)) * (u+1), g being gate but at most limit, and u being up but within limit of
// 0 (OpenAI, gpt-oss, 2025). gate and up have at least as many elements as y; y may be gate or up.
func ClampedGLU(y, gate, up []float32, slope, limit float32) {
	gate, up = gate[:len(y)], up[:len(y)]
	for from := 0; from < len(y); from += stretch {
		to := min(from+stretch, len(y))
		clampedGLU(y[from:to], gate[from:to], up[from:to], slope, limit)
		safepoint()
	}
}

func clampedGLU(y, gate, up []float32, slope, limit float32) {
	for i := clampedGLUFast(y, gate, up, slope, limit); i < len(y); i++ {
		g, u := min(gate[i], limit), max(min(up[i], limit), -limit)
		d := 1 + exp32(-float32(g*slope))
		y[i] = float32(g/d) * (u + 1)
	}
}
