package gguf_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"lamina/kernels"
	"lamina/shard/gguf"
	"lamina/shard/tiny"
)

func write(t testing.TB, pairs []gguf.Pair, tensors []gguf.Tensor) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := gguf.Write(&b, pairs, tensors); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	pairs := []gguf.Pair{
		{"s", gguf.String("Grüße")}, {"t", gguf.Bool(true)}, {"u", gguf.Uint32(7)}, {"big", gguf.Uint64(math.MaxUint64)},
		{"i", gguf.Int32(-3)}, {"f", gguf.Float32(1.5)}, {"ss", gguf.Strings([]string{"a", "", "bc"})},
		{"is", gguf.Int32s([]int32{-1, 2})}, {"fs", gguf.Float32s([]float32{0.5})}, {"none", gguf.Strings(nil)},
	}
	tensors := []gguf.Tensor{
		{Name: "v", Type: kernels.F32, Dims: []int{3}, Data: make([]byte, 12)},
		{Name: "m", Type: kernels.Q8_0, Dims: []int{64, 2}, Data: bytes.Repeat([]byte{5}, 136)},
	}
	f, err := gguf.Parse(write(t, pairs, tensors))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(f.Tensors, tensors) {
		t.Errorf("tensors came back as %v", f.Tensors)
	}
	if m, ok := f.Tensor("m"); !ok || m.Rows() != 2 || m.Cols() != 64 {
		t.Errorf("m is %v", m)
	}
	check := func(what string, got any, ok bool, want any) {
		t.Helper()
		if !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, %v; want %v", what, got, ok, want)
		}
	}
	s, ok := f.KV.String("s")
	check("s", s, ok, "Grüße")
	b, ok := f.KV.Bool("t")
	check("t", b, ok, true)
	u, ok := f.KV.Uint("u")
	check("u", u, ok, uint64(7))
	u, ok = f.KV.Uint("big")
	check("big", u, ok, uint64(math.MaxUint64))
	i, ok := f.KV.Int("i")
	check("i", i, ok, int64(-3))
	x, ok := f.KV.Float("f")
	check("f", x, ok, 1.5)
	ss, ok := f.KV.Strings("ss")
	check("ss", ss, ok, []string{"a", "", "bc"})
	is, ok := f.KV.Ints("is")
	check("is", is, ok, []int64{-1, 2})
	fs, ok := f.KV.Floats("fs")
	check("fs", fs, ok, []float32{0.5})
	n, ok := f.KV.Len("ss")
	check("len", n, ok, 3)
}

func TestGettersRefuseOtherKinds(t *testing.T) {
	kv := gguf.NewKV([]gguf.Pair{
		{"s", gguf.String("x")}, {"i", gguf.Int32(-1)}, {"big", gguf.Uint64(1 << 63)}, {"ss", gguf.Strings([]string{"a"})},
	})
	for name, ok := range map[string]bool{
		"string of int":     second(kv.String("i")),
		"bool of string":    second(kv.Bool("s")),
		"uint of negative":  second(kv.Uint("i")),
		"uint of string":    second(kv.Uint("s")),
		"int of too large":  second(kv.Int("big")),
		"float of int":      second(kv.Float("i")),
		"strings of string": second(kv.Strings("s")),
		"ints of strings":   second(kv.Ints("ss")),
		"floats of strings": second(kv.Floats("ss")),
		"bools of strings":  second(kv.Bools("ss")),
		"len of scalar":     second(kv.Len("i")),
		"absent":            second(kv.String("nothing")),
	} {
		if ok {
			t.Errorf("%s: ok", name)
		}
	}
}

func second[T any](_ T, ok bool) bool { return ok }

// raw builds files that Write refuses to.
type raw []byte

func (b raw) u32(v uint32) raw { return binary.LittleEndian.AppendUint32(b, v) }
func (b raw) u64(v uint64) raw { return binary.LittleEndian.AppendUint64(b, v) }
func (b raw) str(s string) raw { return append(b.u64(uint64(len(s))), s...) }

func header(tensors, pairs uint64) raw {
	return raw("GGUF").u32(3).u64(tensors).u64(pairs)
}

func TestHostile(t *testing.T) {
	tensor := func(name string, typ uint32, offset uint64, dims ...uint64) raw {
		b := raw{}.str(name).u32(uint32(len(dims)))
		for _, d := range dims {
			b = b.u64(d)
		}
		return b.u32(typ).u64(offset)
	}
	data := make(raw, 256)
	one := func(entry raw) raw { return append(append(header(1, 0), entry...), data...) }
	nested := header(0, 1).str("k").u32(9)
	for range 5 {
		nested = nested.u32(9).u64(1)
	}
	align := func(a uint64) raw {
		return append(append(header(1, 1).str("general.alignment").u32(10).u64(a), tensor("t", 0, 0, 8)...), data...)
	}
	for _, c := range []struct {
		name string
		file raw
		kind error
		text string
	}{
		{"empty", nil, gguf.ErrTruncated, "4 bytes"},
		{"other file", raw("PK\x03\x04 something"), gguf.ErrFormat, "does not start with GGUF"},
		{"version 1", raw("GGUF").u32(1).u64(0).u64(0), gguf.ErrUnsupported, "version 1"},
		{"big endian", raw("GGUF").u32(3 << 24).u64(0).u64(0), gguf.ErrUnsupported, "big endian"},
		{"too many tensors", header(1<<40, 0), gguf.ErrLimit, "tensors"},
		{"too many pairs", header(0, 1<<40), gguf.ErrLimit, "key-value"},
		{"key longer than the file", header(0, 1).u64(60000), gguf.ErrTruncated, "60000"},
		{"huge key", header(0, 1).u64(1 << 62), gguf.ErrLimit, "key"},
		{"huge string", header(0, 1).str("k").u32(8).u64(1 << 62), gguf.ErrLimit, "k"},
		{"unknown value type", header(0, 1).str("k").u32(99), gguf.ErrFormat, "99"},
		{"array of unknown type", header(0, 1).str("k").u32(9).u32(99).u64(0), gguf.ErrFormat, "99"},
		{"huge array", header(0, 1).str("k").u32(9).u32(4).u64(1 << 61), gguf.ErrLimit, "array"},
		{"array past the end", header(0, 1).str("k").u32(9).u32(4).u64(1 << 20), gguf.ErrTruncated, "bytes"},
		{"deep nesting", nested, gguf.ErrLimit, "nested"},
		{"same key twice", header(0, 2).str("k").u32(7).append(1).str("k").u32(7).append(0), gguf.ErrFormat, "twice"},
		{"no dimensions", one(tensor("t", 0, 0)), gguf.ErrFormat, "dimensions"},
		{"five dimensions", one(tensor("t", 0, 0, 1, 1, 1, 1, 1)), gguf.ErrFormat, "dimensions"},
		{"zero dimension", one(tensor("t", 0, 0, 0)), gguf.ErrFormat, "dimension 0"},
		{"product overflows", one(tensor("t", 0, 0, 1<<31-1, 1<<31-1, 1<<31-1)), gguf.ErrFormat, "dimension"},
		{"negative dimension", one(tensor("t", 0, 0, 1<<63)), gguf.ErrFormat, "dimension"},
		{"unknown tensor type", one(tensor("blk.0.attn_q.weight", 16, 0, 256)), gguf.ErrUnsupported, "blk.0.attn_q.weight"},
		{"half a block", one(tensor("t", 8, 0, 31)), gguf.ErrFormat, "multiple"},
		{"past the end", one(tensor("t", 0, 64, 64)), gguf.ErrTruncated, "past the end"},
		{"offset overflows", one(tensor("t", 0, math.MaxUint64-31, 8)), gguf.ErrTruncated, "past the end"},
		{"crooked offset", one(tensor("t", 0, 4, 4)), gguf.ErrFormat, "alignment"},
		{"same tensor twice", append(append(header(2, 0), append(tensor("t", 0, 0, 4), tensor("t", 0, 32, 4)...)...), data...), gguf.ErrFormat, "twice"},
		{"overlap", append(append(header(2, 0), append(tensor("a", 0, 0, 16), tensor("b", 0, 32, 4)...)...), data...), gguf.ErrFormat, "share bytes"},
		{"alignment zero", align(0), gguf.ErrFormat, "power of two"},
		{"alignment three", align(3), gguf.ErrFormat, "power of two"},
		{"alignment huge", align(1 << 40), gguf.ErrFormat, "power of two"},
		{"no data at all", append(header(1, 0), tensor("t", 0, 0, 8)...), gguf.ErrTruncated, "ends"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := gguf.Parse(c.file)
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v; want %v with %q", err, c.kind, c.text)
			}
		})
	}
}

func (b raw) append(x byte) raw { return append(b, x) }

// Every cut of a valid file is refused, and never as anything but cut short.
func TestTruncated(t *testing.T) {
	data := tiny.Llama(tiny.Config{Layers: 1})
	for n := range data {
		if n > 4096 && n%97 != 0 { // the header byte by byte, the data in steps
			continue
		}
		if _, err := gguf.Parse(data[:n:n]); !errors.Is(err, gguf.ErrTruncated) {
			t.Fatalf("cut to %d of %d bytes: %v", n, len(data), err)
		}
	}
}

func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	data := tiny.Qwen2(tiny.Config{Layers: 1})
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := gguf.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(f.Tensors, p.Tensors) || !reflect.DeepEqual(f.KV, p.KV) {
		t.Error("the mapped file differs from the parsed bytes")
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := gguf.Open(path); !errors.Is(err, gguf.ErrTruncated) {
		t.Errorf("empty file: %v", err)
	}
	if _, err := gguf.Open(filepath.Dir(path)); err == nil {
		t.Error("a directory was opened")
	}
}

func TestGuardCatchesAShrunkFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(path, tiny.Llama(tiny.Config{}), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Truncate(path, 100); err != nil {
		t.Fatal(err)
	}
	last := f.Tensors[len(f.Tensors)-2]
	sum := 0
	err = gguf.Guard(func() error {
		for _, b := range last.Data {
			sum += int(b)
		}
		return nil
	})
	if !errors.Is(err, gguf.ErrTruncated) {
		t.Errorf("got %v (sum %d)", err, sum)
	}
}

func TestGuardPassesOtherPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a panic of another kind was swallowed")
		}
	}()
	var p []int
	gguf.Guard(func() error { p[3] = 1; return nil })
}

func TestWriteParse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var pairs []gguf.Pair
		for _, k := range rapid.SliceOfNDistinct(rapid.String(), 0, 5, rapid.ID).Draw(t, "keys") {
			pairs = append(pairs, gguf.Pair{Key: k, Value: gguf.Strings(rapid.SliceOf(rapid.String()).Draw(t, "value"))})
		}
		var b bytes.Buffer
		if err := gguf.Write(&b, pairs, nil); err != nil {
			t.Fatal(err)
		}
		f, err := gguf.Parse(b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pairs {
			want, _ := gguf.NewKV(pairs).Strings(p.Key)
			if got, ok := f.KV.Strings(p.Key); !ok || !reflect.DeepEqual(got, want) {
				t.Fatalf("%q: %q, want %q", p.Key, got, want)
			}
		}
		var again bytes.Buffer
		if err := gguf.Write(&again, f.KV.Pairs(), f.Tensors); err != nil || !bytes.Equal(b.Bytes(), again.Bytes()) {
			t.Fatalf("written again, the file differs (%v)", err)
		}
	})
}

func FuzzParse(f *testing.F) {
	// Small seeds: the fuzzer spends its time on shrinking large ones.
	f.Add(write(f, []gguf.Pair{{"a", gguf.Strings([]string{"x", ""})}, {"general.alignment", gguf.Uint32(16)}, {"f", gguf.Float32s([]float32{1})}},
		[]gguf.Tensor{{Name: "t", Type: kernels.F32, Dims: []int{2, 1}, Data: make([]byte, 8)}, {Name: "u", Type: kernels.Q8_0, Dims: []int{32}, Data: make([]byte, 34)}}))
	f.Add([]byte(header(1, 1).str("general.alignment").u32(4).u32(64)))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := gguf.Parse(data)
		if err != nil {
			return
		}
		for _, p := range file.KV.Pairs() {
			file.KV.Strings(p.Key)
			file.KV.Ints(p.Key)
			file.KV.Floats(p.Key)
			file.KV.Bools(p.Key)
			file.KV.Uint(p.Key)
		}
		for _, x := range file.Tensors {
			if want := x.Rows() * x.Cols() / x.Type.Block() * x.Type.BlockBytes(); len(x.Data) != want {
				t.Errorf("%s has %d bytes, its shape needs %d", x.Name, len(x.Data), want)
			}
		}
	})
}
