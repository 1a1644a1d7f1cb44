package packed_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"testing"

	"lamina/kernels"
	"lamina/shard/packed"
	"lamina/shard/tiny"
)

func items() []packed.Item {
	w := make([]float32, 18*64)
	for i := range w {
		w[i] = float32(i%13) - 6
	}
	return []packed.Item{
		{Name: "norm", Type: kernels.F32, Cols: 3, Src: tiny.Quantize(kernels.F32, []float32{1, 2, 3})},
		{Name: "q", Type: kernels.Q8_0, Rows: 18, Cols: 64, Src: tiny.Quantize(kernels.Q8_0, w)},
		{Name: "half", Type: kernels.F16, Cols: 2, Src: tiny.Quantize(kernels.F16, []float32{0.5, -2})},
		{Name: "f", Type: kernels.F32, Rows: 3, Cols: 5, Src: tiny.Quantize(kernels.F32, w[:15])},
	}
}

func encode(t testing.TB, buf []byte) []byte {
	t.Helper()
	b, err := packed.Encode(buf, items())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	data := encode(t, nil)
	if dirty := encode(t, bytes.Repeat([]byte{0xff}, 2*len(data))); !bytes.Equal(data, dirty) {
		t.Error("the bytes depend on what the buffer held")
	}
	p, err := packed.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"norm", "q", "half", "f"}; !reflect.DeepEqual(p.Names(), want) {
		t.Errorf("names %v", p.Names())
	}
	if v, err := p.Vector("norm"); err != nil || !reflect.DeepEqual(v, []float32{1, 2, 3}) {
		t.Errorf("norm: %v, %v", v, err)
	}
	if v, err := p.Vector("half"); err != nil || !reflect.DeepEqual(v, []float32{0.5, -2}) {
		t.Errorf("half: %v, %v", v, err)
	}
	for _, it := range items() {
		if it.Rows == 0 {
			continue
		}
		m, err := p.Matrix(it.Name)
		if err != nil {
			t.Fatal(err)
		}
		rb, _ := kernels.RowBytes(it.Type, it.Cols)
		got, want := make([]float32, it.Cols), make([]float32, it.Cols)
		for r := range it.Rows {
			m.Row(got, r)
			kernels.Dequantize(want, it.Type, it.Src[r*rb:(r+1)*rb])
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s row %d: %v, want %v", it.Name, r, got, want)
			}
		}
	}
	if _, err := p.Matrix("norm"); err == nil {
		t.Error("a vector was taken for a matrix")
	}
	if _, err := p.Vector("q"); err == nil {
		t.Error("a matrix was taken for a vector")
	}
	if _, rows, cols, ok := p.Shape("q"); !ok || rows != 18 || cols != 64 {
		t.Errorf("shape of q: %d x %d, %v", rows, cols, ok)
	}
}

func TestEncodeRefuses(t *testing.T) {
	for name, it := range map[string]packed.Item{
		"no name":      {Type: kernels.F32, Cols: 1, Src: make([]byte, 4)},
		"empty vector": {Name: "v", Type: kernels.F32},
		"short source": {Name: "m", Type: kernels.Q8_0, Rows: 2, Cols: 32, Src: make([]byte, 34)},
		"half a block": {Name: "m", Type: kernels.Q8_0, Rows: 1, Cols: 16, Src: make([]byte, 17)},
		"unknown type": {Name: "m", Type: 99, Rows: 1, Cols: 16, Src: make([]byte, 17)},
	} {
		if _, err := packed.Encode(nil, []packed.Item{it}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestHostile(t *testing.T) {
	good := encode(t, nil)
	le := binary.LittleEndian
	first := 16 + 2 + len("norm") // type of the first entry
	for name, change := range map[string]func(b []byte) []byte{
		"empty":           func(b []byte) []byte { return nil },
		"magic":           func(b []byte) []byte { b[0] = 'X'; return b },
		"version":         func(b []byte) []byte { b[4] = 9; return b },
		"many entries":    func(b []byte) []byte { le.PutUint32(b[8:], 1<<31); return b },
		"more entries":    func(b []byte) []byte { b[8]++; return b },
		"fewer entries":   func(b []byte) []byte { b[8]--; return b },
		"header past end": func(b []byte) []byte { le.PutUint32(b[12:], 1<<30); return b },
		"header crooked":  func(b []byte) []byte { b[12]++; return b },
		"name past end":   func(b []byte) []byte { le.PutUint16(b[16:], 60000); return b },
		"type unknown":    func(b []byte) []byte { b[first] = 77; return b },
		"rows huge":       func(b []byte) []byte { le.PutUint32(b[first+4:], 1<<31); return b },
		"cols huge":       func(b []byte) []byte { le.PutUint32(b[first+8:], 1<<31); return b },
		"cols zero":       func(b []byte) []byte { le.PutUint32(b[first+8:], 0); return b },
		"offset moved":    func(b []byte) []byte { b[first+12] += 64; return b },
		"size changed":    func(b []byte) []byte { b[first+20]++; return b },
		"cut short":       func(b []byte) []byte { return b[:len(b)-64] },
		"longer":          func(b []byte) []byte { return append(b, 0) },
	} {
		if _, err := packed.Parse(change(bytes.Clone(good))); !errors.Is(err, packed.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	small, err := packed.Encode(nil, append(items()[:1:1], items()[3]))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(small)
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := packed.Parse(data)
		if err != nil {
			return
		}
		for _, name := range p.Names() {
			_, rows, cols, _ := p.Shape(name)
			if rows == 0 {
				if v, err := p.Vector(name); err != nil || len(v) != cols {
					t.Errorf("%q: %v", name, err)
				}
				continue
			}
			m, err := p.Matrix(name)
			if err != nil {
				t.Errorf("%q: %v", name, err)
				continue
			}
			m.Row(make([]float32, cols), rows-1)
		}
	})
}
