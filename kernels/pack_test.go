package kernels

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestGolden compares with the rows that testdata/make_gguf.py dequantised with PyPI's gguf package:
// what Dequantize makes of them, and what comes back from a packed matrix.
func TestGolden(t *testing.T) {
	text, err := os.ReadFile("testdata/gguf.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		seen[f[0]] = true
		typ := typeNamed(t, f[0])
		src, _ := hex.DecodeString(f[1])
		row := make([]float32, 512)
		if err := Dequantize(row, typ, src); err != nil {
			t.Fatal(err)
		}
		checkGolden(t, f[0]+" dequantised", row, f[2], f[3])
		m := packed(t, typ, 3, 512, append(append(append([]byte{}, src...), src...), src...))
		clear(row)
		m.Row(row, 2)
		checkGolden(t, f[0]+" packed", row, f[2], f[3])
	}
	if len(seen) != len(allTypes) {
		t.Errorf("golden rows of %d types, want %d", len(seen), len(allTypes))
	}
}

func typeNamed(t *testing.T, name string) Type {
	for _, typ := range allTypes {
		if typ.String() == name {
			return typ
		}
	}
	t.Fatalf("no type %s", name)
	return 0
}

func checkGolden(t *testing.T, what string, row []float32, sum, start string) {
	t.Helper()
	b := make([]byte, 0, 4*len(row))
	for _, v := range row {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	got := sha256.Sum256(b)
	if hex.EncodeToString(got[:]) == sum {
		return
	}
	first, _ := hex.DecodeString(start)
	for i := range len(first) / 4 {
		if want := math.Float32frombits(binary.LittleEndian.Uint32(first[4*i:])); row[i] != want {
			t.Fatalf("%s: element %d is %v, want %v", what, i, row[i], want)
		}
	}
	t.Fatalf("%s: differs after the first %d elements", what, len(first)/4)
}

func TestSizes(t *testing.T) {
	for _, c := range []struct {
		typ        Type
		rows, cols int
		row        int
		packed     int64
	}{
		{F32, 17, 3, 12, 2 * 16 * 3 * 4},
		{F16, 16, 5, 10, 16 * 5 * 2},
		{Q8_0, 16, 64, 68, 16 * 68},
		{Q4_0, 1, 32, 18, 16 * 18},
		{Q4_1, 16, 32, 20, 16 * 20},
		{Q5_0, 16, 32, 22, 16 * 22},
		{Q5_1, 16, 32, 24, 16 * 24},
		{Q4_K, 16, 256, 144, 16*144 + 64},
		{Q5_K, 16, 256, 176, 16*176 + 64},
		{Q6_K, 16, 512, 420, 16 * 420},
		{Q2_K, 16, 256, 84, 16 * 84},
		{Q3_K, 16, 256, 110, 16*110 + 64},
		{IQ4_NL, 16, 32, 18, 16 * 18},
		{IQ4_XS, 16, 256, 136, 16*136 + 32},
		{MXFP4, 16, 32, 17, 16 * 17},
	} {
		if n, err := RowBytes(c.typ, c.cols); n != c.row || err != nil {
			t.Errorf("RowBytes(%s, %d) = %d, %v, want %d", c.typ, c.cols, n, err, c.row)
		}
		if n, err := PackedSize(c.typ, c.rows, c.cols); n != c.packed || err != nil {
			t.Errorf("PackedSize(%s, %d, %d) = %d, %v, want %d", c.typ, c.rows, c.cols, n, err, c.packed)
		}
	}
}

func TestBadShapes(t *testing.T) {
	for _, c := range []struct {
		typ        Type
		rows, cols int
		want       error
	}{
		{Type(99), 1, 32, ErrType},
		{Type(4), 1, 32, ErrType},
		{Q4_0, 1, 33, ErrShape},
		{Q4_0, 1, 0, ErrShape},
		{Q4_0, 0, 32, ErrShape},
		{Q4_0, -1, 32, ErrShape},
		{Q4_K, 1, 128, ErrShape},
		{F32, math.MaxInt, 1, ErrShape},
		{F32, 1, math.MaxInt, ErrShape},
		{F32, -1, -1, ErrShape},
	} {
		if _, err := PackedSize(c.typ, c.rows, c.cols); !errors.Is(err, c.want) {
			t.Errorf("PackedSize(%s, %d, %d): %v, want %v", c.typ, c.rows, c.cols, err, c.want)
		}
		if err := Pack(nil, nil, c.typ, c.rows, c.cols); !errors.Is(err, c.want) {
			t.Errorf("Pack(%s, %d, %d): %v, want %v", c.typ, c.rows, c.cols, err, c.want)
		}
		if _, err := NewMatrix(c.typ, c.rows, c.cols, nil); !errors.Is(err, c.want) {
			t.Errorf("NewMatrix(%s, %d, %d): %v, want %v", c.typ, c.rows, c.cols, err, c.want)
		}
	}
	if err := Dequantize(make([]float32, 32), Q4_0, make([]byte, 19)); !errors.Is(err, ErrShape) {
		t.Errorf("Dequantize of too many bytes: %v", err)
	}
}

// TestBadScales: a scale that is infinite or NaN is found when a matrix is packed.
func TestBadScales(t *testing.T) {
	for _, typ := range allTypes {
		f := formOf(typ)
		if !f.quantised() {
			continue
		}
		src := randomRows(rand.New(rand.NewPCG(5, 5)), typ, 2, 512)
		for _, at := range scalesAt(typ) {
			bad := slices.Clone(src)
			if last := bad[len(bad)-f.bytes:]; f.exp {
				last[0] = 255
			} else {
				binary.LittleEndian.PutUint16(last[at:], 0x7c00)
			}
			n, _ := PackedSize(typ, 2, 512)
			if err := Pack(make([]byte, n), bad, typ, 2, 512); !errors.Is(err, ErrScale) {
				t.Errorf("%s: %v, want %v", typ, err, ErrScale)
			}
		}
	}
}

// FuzzPack packs arbitrary bytes as every type: it fails or gives the values of Dequantize.
func FuzzPack(f *testing.F) {
	f.Add(uint32(12), 3, 256, randomRows(rand.New(rand.NewPCG(6, 6)), Q4_K, 3, 256))
	f.Add(uint32(2), 17, 32, randomRows(rand.New(rand.NewPCG(6, 6)), Q4_0, 17, 32))
	for _, typ := range []Type{Q2_K, Q3_K, IQ4_NL, IQ4_XS, MXFP4} {
		f.Add(uint32(typ), 2, 256, randomRows(rand.New(rand.NewPCG(6, 7)), typ, 2, 256))
	}
	f.Add(uint32(30), 1, 7, make([]byte, 14))
	f.Fuzz(func(t *testing.T, typ uint32, rows, cols int, src []byte) {
		n, err := PackedSize(Type(typ), rows, cols)
		if err != nil || n > 1<<20 {
			return
		}
		dst := make([]byte, n)
		if Pack(dst, src, Type(typ), rows, cols) != nil {
			return
		}
		m, err := NewMatrix(Type(typ), rows, cols, dst)
		if err != nil {
			t.Fatal(err)
		}
		rb, _ := RowBytes(Type(typ), cols)
		got, want := make([]float32, cols), make([]float32, cols)
		for r := range rows {
			m.Row(got, r)
			if err := Dequantize(want, Type(typ), src[r*rb:(r+1)*rb]); err != nil {
				t.Fatal(err)
			}
			if i := differ(got, want); i >= 0 {
				t.Fatalf("row %d column %d: %v, want %v", r, i, got[i], want[i])
			}
		}
	})
}

// TestHalf checks all 16-bit floats against their definition.
func TestHalf(t *testing.T) {
	for h := range 1 << 16 {
		exp, frac := h>>10&31, float64(h&1023)
		want := math.Ldexp(1+frac/1024, exp-15)
		switch {
		case exp == 0:
			want = math.Ldexp(frac, -24)
		case exp == 31 && frac == 0:
			want = math.Inf(1)
		case exp == 31:
			want = math.NaN()
		}
		if h>>15 == 1 {
			want = -want
		}
		got := f16(uint16(h))
		if float64(got) != want && got == got || math.Signbit(float64(got)) != (h>>15 == 1) {
			t.Fatalf("f16(%#04x) = %v, want %v", h, got, want)
		}
		if finite16(uint16(h)) != !(math.IsNaN(want) || math.IsInf(want, 0)) {
			t.Fatalf("finite16(%#04x) is wrong", h)
		}
	}
}

// BenchmarkPack is the speed of packing, in bytes of GGUF.
func BenchmarkPack(b *testing.B) {
	for _, typ := range allTypes {
		b.Run(typ.String(), func(b *testing.B) {
			const rows, cols = 64, 1536
			src := randomRows(rand.New(rand.NewPCG(1, 1)), typ, rows, cols)
			n, _ := PackedSize(typ, rows, cols)
			dst := make([]byte, n)
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				if err := Pack(dst, src, typ, rows, cols); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
