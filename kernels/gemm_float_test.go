package kernels

import (
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"
)

// drawFuse draws what a product of some columns does besides.
func drawFuse(t *rapid.T, cols int) Fuse {
	f := Fuse{Add: rapid.Bool().Draw(t, "add"), Clip: rapid.Bool().Draw(t, "clip")}
	if rapid.Bool().Draw(t, "bias") {
		f.Bias = values(t, "bias", cols)
	}
	if f.Clip {
		f.Low, f.High = 0, rapid.SampledFrom([]float32{6, 1, float32(math.Inf(1))}).Draw(t, "high")
	}
	return f
}

// floatMatrix draws a matrix of a float type, and returns what it holds as well.
func floatMatrix(t *rapid.T, typ Type, rows, cols int) *Matrix {
	if typ == F32 {
		return PackFloats(nil, nil, values(t, "weights", rows*cols), cols, rows, cols, false)
	}
	raw := make([]byte, 2*rows*cols)
	for i, v := range values(t, "weights", rows*cols) {
		h := toHalf(v)
		if typ == BF16 {
			h = uint16(math.Float32bits(v) >> 16)
		}
		raw[2*i], raw[2*i+1] = byte(h), byte(h>>8)
	}
	return packedRapid(t, typ, rows, cols, raw)
}

func packedRapid(t *rapid.T, typ Type, rows, cols int, raw []byte) *Matrix {
	size, err := PackedSize(typ, rows, cols)
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, size)
	if err := Pack(dst, raw, typ, rows, cols); err != nil {
		t.Fatal(err)
	}
	m, err := NewMatrix(typ, rows, cols, dst)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// plainGEMM is GEMM as its contract says it, one element at a time.
func plainGEMM(y []float32, ldy int, x []float32, ldx, rows int, m *Matrix, f Fuse) {
	row := make([]float32, m.Cols)
	for n := range m.Rows {
		m.Row(row, n)
		for r := range rows {
			sum := float32(0)
			switch {
			case f.Bias != nil && f.Add:
				sum = f.Bias[n] + y[r*ldy+n]
			case f.Add:
				sum = y[r*ldy+n]
			case f.Bias != nil:
				sum = f.Bias[n]
			}
			for k, v := range row {
				sum = fma32(x[r*ldx+k], v, sum)
			}
			if f.Clip {
				one := []float32{sum}
				bound(one, f.Low, f.High)
				sum = one[0]
			}
			y[r*ldy+n] = sum
		}
	}
}

// TestGEMM: any shape, type, stride and number of workers gives the bits of the contract, and nothing else is written.
func TestGEMM(t *testing.T) {
	teams := newTeams(t)
	eachImpl(t, func(t *testing.T) { rapid.Check(t, func(t *rapid.T) { checkGEMM(t, teams) }) })
}

func FuzzGEMM(f *testing.F) {
	teams := newTeams(f)
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) { checkGEMM(t, teams) }))
}

func checkGEMM(t *rapid.T, teams []*Workers) {
	typ := rapid.SampledFrom([]Type{F32, F32, F16, BF16}).Draw(t, "type")
	rows, n := rapid.IntRange(1, 40).Draw(t, "rows"), rapid.IntRange(1, 100).Draw(t, "n")
	k := rapid.OneOf(rapid.IntRange(1, 40), rapid.SampledFrom([]int{383, 384, 385, 800, 1153})).Draw(t, "k")
	ldx, ldy := k+rapid.IntRange(0, 3).Draw(t, "ldx"), n+rapid.IntRange(0, 3).Draw(t, "ldy")
	m := floatMatrix(t, typ, n, k)
	x, y := exact(t, "x", (rows-1)*ldx+k), exact(t, "y", (rows-1)*ldy+n)
	f := drawFuse(t, n)
	want := append([]float32{}, y...)
	plainGEMM(want, ldy, x, ldx, rows, m, f)
	GEMM(team(t, teams), y, ldy, x, ldx, rows, m, f)
	sameBits(t, fmt.Sprintf("GEMM %s %dx%dx%d", typ, rows, n, k), y, want)
}

// team draws one of some teams.
func team(t *rapid.T, teams []*Workers) *Workers {
	return teams[rapid.IntRange(0, len(teams)-1).Draw(t, "team")]
}

// TestPackFloats: both orders of the right operand, any stride, memory used again.
func TestPackFloats(t *testing.T) {
	w := NewWorkers(2)
	defer w.Close()
	eachImpl(t, func(t *testing.T) {
		m := new(Matrix)
		rapid.Check(t, func(t *rapid.T) {
			rows, cols := rapid.IntRange(1, 300).Draw(t, "rows"), rapid.IntRange(1, 200).Draw(t, "cols")
			byColumn := rapid.Bool().Draw(t, "by column")
			width, height := cols, rows
			if byColumn {
				width, height = rows, cols
			}
			ld := width + rapid.IntRange(0, 3).Draw(t, "ld")
			b := normals(1, (height-1)*ld+width)
			m = PackFloats(w, m, b, ld, rows, cols, byColumn)
			if size, _ := PackedSize(F32, rows, cols); m.Rows != rows || m.Cols != cols || int64(len(m.Data)) != size {
				t.Fatalf("%d x %d matrix of %d bytes", m.Rows, m.Cols, len(m.Data))
			}
			row, want := make([]float32, cols), make([]float32, cols)
			for n := range rows {
				for k := range cols {
					at := n*ld + k
					if byColumn {
						at = k*ld + n
					}
					want[k] = b[at]
				}
				m.Row(row, n)
				sameBits(t, "row", row, want)
			}
		})
	})
}

// newTeams starts teams of 1 to 8 workers, of those that differ.
func newTeams(t testing.TB) (teams []*Workers) {
	for _, n := range []int{1, 2, 3, 5, 8} {
		w := NewWorkers(n)
		t.Cleanup(w.Close)
		teams = append(teams, w)
	}
	return teams
}
