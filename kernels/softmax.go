package kernels

import "math"

// expBlock is how many exponentials are added in float32 before the sum goes on in float64.
const expBlock = 1024

// Softmax replaces x by exp(x-max) / sum(exp(x-max)).
func Softmax(x []float32) {
	if len(x) == 0 {
		return
	}
	scaleInto(x, x, float32(1/expSum(x, x, maxOf(x))))
}

// LogSumExp is log(sum(exp(x))), without overflow; minus infinity if x is empty.
func LogSumExp(x []float32) float32 {
	if len(x) == 0 {
		return float32(math.Inf(-1))
	}
	m := maxOf(x)
	if math.IsInf(float64(m), 0) {
		return m
	}
	var e [expBlock]float32
	var sum float64
	for from := 0; from < len(x); from += expBlock {
		part := x[from:min(from+expBlock, len(x))]
		sum += expSum(e[:len(part)], part, m)
	}
	return float32(float64(m) + ln64(sum))
}

// expSum writes exp(x-m) to e and returns the sum: 16 partial sums and their tree in float32 for each block of 1024,
// blocks in order in float64.
func expSum(e, x []float32, m float32) float64 {
	var sum float64
	for from := 0; from < len(x); from += expBlock {
		to := min(from+expBlock, len(x))
		sum += float64(expLanes(e[from:to], x[from:to], m))
	}
	return sum
}

func expLanes(e, x []float32, m float32) float32 {
	var acc [lanes]float32
	for i := expSumsFast(&acc, e, x, m); i < len(x); i++ {
		e[i] = exp32(x[i] - m)
		acc[i%lanes] += e[i]
	}
	return laneSum(&acc)
}

// maxOf is the largest element. NaN counts as less than every number.
func maxOf(x []float32) float32 {
	var acc [lanes]float32
	for i := range acc {
		acc[i] = float32(math.Inf(-1))
	}
	done := maximaFast(&acc, x)
	m := acc[0]
	for _, v := range acc {
		m = larger(v, m)
	}
	for _, v := range x[done:] {
		m = larger(v, m)
	}
	return m
}

// larger is the larger one of a number or NaN, and a number.
func larger(v, m float32) float32 {
	if v > m {
		return v
	}
	return m
}

// Argmax is the index of the largest element, the first of equals; NaN is never the largest. It is 0 if there are
// only NaN and -1 if x is empty.
func Argmax(x []float32) int {
	if len(x) == 0 {
		return -1
	}
	m := maxOf(x)
	for i, v := range x {
		if v == m {
			return i
		}
	}
	return 0
}
