package kernels

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func sigmoid64(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// TestTanhSigmoid: the errors that the documentation states, and the ends of the range.
func TestTanhSigmoid(t *testing.T) {
	var worst [2]float64
	for v := -86.0; v < 86; v += 0.00037 {
		x := float32(v)
		if want := math.Tanh(float64(x)); want != 0 {
			worst[0] = max(worst[0], math.Abs(float64(tanh32(x))-want)/math.Abs(want))
		}
		want := sigmoid64(float64(x))
		worst[1] = max(worst[1], math.Abs(float64(sigmoid32(x))-want)/want)
	}
	if worst[0] > 3e-7 || worst[1] > 2e-7 {
		t.Errorf("relative errors of tanh and sigmoid: %.3g and %.3g", worst[0], worst[1])
	}
	inf, nan, minus := float32(math.Inf(1)), float32(math.NaN()), float32(math.Copysign(0, -1))
	sameBits(t, "tanh", []float32{tanh32(inf), tanh32(-inf), tanh32(nan), tanh32(0), tanh32(minus), tanh32(1e-30)}, []float32{1, -1, nan, 0, minus, 1e-30})
	sameBits(t, "sigmoid", []float32{sigmoid32(inf), sigmoid32(nan), sigmoid32(0), sigmoid32(-300)}, []float32{1, nan, 0.5, 1 / (1 + exp32(300))})
}

// Every cell of any length, aligned or not, is the same at every level.
func TestCellLevels(t *testing.T) {
	eachImpl(t, func(t *testing.T) { rapid.Check(t, checkCells) })
}

func FuzzCells(f *testing.F) { f.Fuzz(rapid.MakeFuzz(checkCells)) }

func checkCells(t *rapid.T) {
	n := rapid.IntRange(1, 100).Draw(t, "n")
	h, c, gates, peep := values(t, "h", n), values(t, "c", n), values(t, "gates", 5*n), values(t, "peep", 3*n)
	if rapid.Bool().Draw(t, "no peepholes") {
		peep = nil
	}
	asGeneric(t, "LSTM", func() []float32 {
		h, c := slices.Clone(h), slices.Clone(c)
		lstmCell(h, c, gates[:4*n], peep)
		return append(h, c...)
	})
	asGeneric(t, "GRU", func() []float32 {
		a, b, y := slices.Clone(h), slices.Clone(h), make([]float32, n)
		gruCell(a, gates[:n], gates[n:2*n], gates[2*n:3*n], gates[3*n:4*n])
		gruBlend(b, gates[:n], gates[n:2*n])
		sigmoidMul(y, gates[:n], h)
		return slices.Concat(a, b, y)
	})
	asGeneric(t, "Sigmoid and Tanh", func() []float32 {
		a, b := slices.Clone(gates), slices.Clone(gates)
		Sigmoid(a)
		Tanh(b)
		return append(a, b...)
	})
}

// The functions are the same at every level over the range where they are not constant, at a fine pitch.
func TestTanhLevels(t *testing.T) {
	eachImpl(t, func(t *testing.T) {
		var x []float32
		for v := float32(0); v < 90; v += 0.0007 {
			x = append(x, -v, v, v/100)
		}
		x = append(x, awkward...)
		asGeneric(t, "Tanh and Sigmoid", func() []float32 {
			a, b := slices.Clone(x), slices.Clone(x)
			Tanh(a)
			Sigmoid(b)
			return append(a, b...)
		})
	})
}

// drawRNN draws a recurrent network's sizes and some operands of ordinary size.
func drawRNN(t *rapid.T, gates int) (hidden, batch int, r, g, h []float32) {
	hidden, batch = rapid.IntRange(1, 50).Draw(t, "hidden"), rapid.IntRange(1, 9).Draw(t, "batch")
	seed := rapid.Uint64().Draw(t, "seed")
	r, g, h = normals(seed, gates*hidden*hidden), normals(seed+1, gates*batch*hidden), normals(seed+2, batch*hidden)
	for i := range r {
		r[i] /= float32(math.Sqrt(float64(hidden)))
	}
	for i := range h {
		h[i] = float32(math.Tanh(float64(h[i])))
	}
	return hidden, batch, r, g, h
}

// dot64 is gate g of row b in float64: the gate's input and its product with the state.
func dot64(gates, r []float32, h []float64, b, g, rows, hidden int) float64 {
	sum := float64(gates[b*rows*hidden+g])
	for k := range hidden {
		sum += float64(r[g*hidden+k]) * h[b*hidden+k]
	}
	return sum
}

func doubles(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// TestLSTM: against float64 within 1e-5, and the same bits in any batch and team.
func TestLSTM(t *testing.T) {
	teams := newTeams(t)
	eachImpl(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			n, batch, r, gates, h := drawRNN(t, 4)
			c, peep := normals(9, batch*n), normals(10, 3*n)
			if rapid.Bool().Draw(t, "no peepholes") {
				peep = nil
			}
			l, err := NewLSTM(n, r, peep)
			if err != nil {
				t.Fatal(err)
			}
			old, wantC, wantH := doubles(h), make([]float64, batch*n), make([]float64, batch*n)
			for i := range h {
				b, k := i/n, i%n
				var g [4]float64
				for j := range g {
					g[j] = dot64(gates, r, old, b, j*n+k, 4, n)
				}
				p := [3]float64{}
				if peep != nil {
					p = [3]float64{float64(peep[k]), float64(peep[n+k]), float64(peep[2*n+k])}
				}
				prev := float64(c[i])
				wantC[i] = sigmoid64(g[2]+p[2]*prev)*prev + sigmoid64(g[0]+p[0]*prev)*math.Tanh(g[3])
				wantH[i] = sigmoid64(g[1]+p[1]*wantC[i]) * math.Tanh(wantC[i])
			}
			one := slices.Concat(h[(batch-1)*n:], c[(batch-1)*n:], gates[4*(batch-1)*n:])
			l.Step(team(t, teams), h, c, gates, batch)
			within(t, "h", h, wantH, 1e-5)
			within(t, "c", c, wantC, 1e-5)
			l.Step(teams[0], one[:n], one[n:2*n], one[2*n:], 1)
			sameBits(t, "the last row alone", one[:2*n], slices.Concat(h[(batch-1)*n:], c[(batch-1)*n:]))
		})
	})
}

// within fails unless got is within tol of want.
func within(t *rapid.T, what string, got []float32, want []float64, tol float64) {
	t.Helper()
	for i, v := range got {
		if !(math.Abs(float64(v)-want[i]) <= tol*max(1, math.Abs(want[i]))) {
			t.Fatalf("%s[%d] is %g, want %g", what, i, v, want[i])
		}
	}
}

// TestGRU: as TestLSTM, for both places of the reset gate.
func TestGRU(t *testing.T) {
	teams := newTeams(t)
	eachImpl(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			n, batch, r, gates, h := drawRNN(t, 3)
			before := rapid.Bool().Draw(t, "linear before reset")
			var bias []float32
			if before && rapid.Bool().Draw(t, "bias") {
				bias = normals(11, n)
			}
			g, err := NewGRU(n, r, bias, before)
			if err != nil {
				t.Fatal(err)
			}
			old, reset, want := doubles(h), make([]float64, batch*n), make([]float64, batch*n)
			for i := range h {
				reset[i] = sigmoid64(dot64(gates, r, old, i/n, n+i%n, 3, n)) * old[i]
			}
			zero := make([]float32, 3*batch*n)
			for i := range h {
				b, k := i/n, i%n
				z, x := sigmoid64(dot64(gates, r, old, b, k, 3, n)), float64(gates[3*b*n+2*n+k])
				if before {
					u := dot64(zero, r, old, b, 2*n+k, 3, n)
					if bias != nil {
						u += float64(bias[k])
					}
					x += sigmoid64(dot64(gates, r, old, b, n+k, 3, n)) * u
				} else {
					x += dot64(zero, r, reset, b, 2*n+k, 3, n)
				}
				want[i] = z*old[i] + (1-z)*math.Tanh(x)
			}
			one := slices.Concat(h[(batch-1)*n:], gates[3*(batch-1)*n:])
			g.Step(team(t, teams), h, gates, make([]float32, batch*n), batch)
			within(t, "h", h, want, 1e-5)
			g.Step(teams[0], one[:n], one[n:], make([]float32, n), 1)
			sameBits(t, "the last row alone", one[:n], h[(batch-1)*n:])
		})
	})
}

func TestRNNShapes(t *testing.T) {
	if _, err := NewLSTM(3, make([]float32, 35), nil); err == nil {
		t.Error("an LSTM of 3 with 35 weights is no error")
	}
	if _, err := NewLSTM(3, make([]float32, 36), make([]float32, 8)); err == nil {
		t.Error("an LSTM of 3 with 8 peepholes is no error")
	}
	if _, err := NewGRU(3, make([]float32, 27), make([]float32, 3), false); err == nil {
		t.Error("a GRU with a bias of its own, without linearBefore, is no error")
	}
	if _, err := NewGRU(0, nil, nil, true); err == nil {
		t.Error("a GRU of nothing is no error")
	}
}
