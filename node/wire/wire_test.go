package wire

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"
)

type inner struct {
	A int32  `msgpack:"a"`
	B string `json:"b,omitempty"`
}

type embedded struct {
	E uint16
	A string `msgpack:"hidden"`
}

type sample struct {
	embedded
	I8     int8              `msgpack:"i8"`
	U64    uint64            `msgpack:"u64"`
	F32    float32           `msgpack:"f32"`
	F64    float64           `msgpack:"f64"`
	S      string            `msgpack:"s"`
	Raw    []byte            `msgpack:"raw"`
	Hash   [4]byte           `msgpack:"hash"`
	Ints   []int64           `msgpack:"ints"`
	In     inner             `msgpack:"in"`
	Ptr    *inner            `msgpack:"ptr"`
	List   []inner           `msgpack:"list"`
	Bias   map[int32]float32 `msgpack:"bias"`
	Labels map[string]string `msgpack:"labels,omitempty"`
	When   time.Time         `msgpack:"when"`
	OK     bool              `msgpack:"ok"`
	Any    any               `msgpack:"any"`
	Skip   chan int          `msgpack:"-"`
}

func TestRoundTrip(t *testing.T) {
	in := sample{
		embedded: embedded{E: 7, A: "x"}, I8: -128, U64: math.MaxUint64, F32: 1.5, F64: math.Pi, S: "größe",
		Raw: []byte{0, 255}, Hash: [4]byte{1, 2, 3, 4}, Ints: []int64{0, -1, -33, 127, 128, 1 << 40, math.MinInt64},
		In: inner{A: 5}, Ptr: &inner{B: "p"}, List: []inner{{A: 1}, {B: "z"}}, Bias: map[int32]float32{-1: 2, 70000: -3},
		When: time.Date(2026, 10, 1, 2, 3, 4, 5, time.UTC), OK: true,
		Any: map[string]any{"a": []any{int64(1), nil, true, "s", 2.5, []byte{9}, uint64(math.MaxUint64)}},
	}
	b, err := Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out sample
	if err := Unmarshal(b, &out, Limits{}); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(in, out) {
		t.Errorf("got %+v\nwant %+v", out, in)
	}
	again, _ := Marshal(&out)
	if !bytes.Equal(b, again) {
		t.Error("equal values gave different bytes")
	}
}

// TestOracle compares with an independent implementation, both ways.
func TestOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type msg struct {
			A int64            `msgpack:"a"`
			U uint64           `msgpack:"u"`
			F float64          `msgpack:"f"`
			S string           `msgpack:"s"`
			B []byte           `msgpack:"b"`
			L []int32          `msgpack:"l"`
			M map[string]int16 `msgpack:"m"`
			T time.Time        `msgpack:"t"`
		}
		in := msg{
			A: rapid.Int64().Draw(t, "a"), U: rapid.Uint64().Draw(t, "u"), F: rapid.Float64().Draw(t, "f"),
			S: rapid.StringN(0, 300, -1).Draw(t, "s"), B: rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "b"),
			L: rapid.SliceOfN(rapid.Int32(), 1, 40).Draw(t, "l"),
			M: rapid.MapOfN(rapid.StringN(1, 9, -1), rapid.Int16(), 1, 20).Draw(t, "m"),
			T: time.Unix(rapid.Int64Range(-1<<40, 1<<40).Draw(t, "sec"), rapid.Int64Range(0, 999999999).Draw(t, "ns")).UTC(),
		}
		ours, err := Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := msgpack.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var fromOurs, fromTheirs msg
		if err := msgpack.Unmarshal(ours, &fromOurs); err != nil {
			t.Fatal(err)
		}
		fromOurs.T = fromOurs.T.UTC()
		if err := Unmarshal(theirs, &fromTheirs, Limits{}); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(in, fromOurs) || !reflect.DeepEqual(in, fromTheirs) {
			t.Fatalf("in %+v\nours read by them %+v\ntheirs read by us %+v", in, fromOurs, fromTheirs)
		}
	})
}

func TestCheckRefuses(t *testing.T) {
	for _, c := range []struct {
		name, hex string
		want      error
	}{
		{"empty", "", ErrMalformed},
		{"five bytes that ask for an array of 2^32-1", "ddffffffff", ErrMalformed},
		{"twelve bytes that ask for a map of 2^31", "df8000000000000000000000", ErrMalformed},
		{"str beyond the end", "dbffffffff41", ErrMalformed},
		{"bin beyond the end", "c6ffffffff41", ErrMalformed},
		{"fixstr beyond the end", "a541", ErrMalformed},
		{"cut number", "cf00", ErrMalformed},
		{"never used code", "c1", ErrMalformed},
		{"unknown extension", "d40100", ErrMalformed},
		{"extension of odd size", "c705ff0000000000", ErrMalformed},
		{"ext 32", "c9000000010100", ErrMalformed},
		{"bytes behind", "c0c0", ErrMalformed},
		{"array header cut", "dc00", ErrMalformed},
		{"too deep", strings.Repeat("91", 9) + "c0", ErrLimit},
		{"deep without end", strings.Repeat("91", 60000), ErrLimit},
		{"too many elements", "dc1001" + strings.Repeat("c0", 4097), ErrLimit},
		{"too many elements in sum", "92dc0800" + strings.Repeat("c0", 2048) + "dc0800" + strings.Repeat("c0", 2048), ErrLimit},
		{"too long", "c50000" + strings.Repeat("00", 65<<10), ErrLimit},
	} {
		b, _ := hex.DecodeString(c.hex)
		if err := Check(b, Limits{}); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
	b, _ := hex.DecodeString(strings.Repeat("91", 8) + "c0")
	if err := Check(b, Limits{}); err != nil {
		t.Errorf("depth 8: %v", err)
	}
}

func TestCheckAllocatesNothing(t *testing.T) {
	b, err := Marshal(map[string]any{"seq": 1, "route": []any{"n1", "n2", "n3"}, "params": map[string]any{"t": 0.5}})
	if err != nil {
		t.Fatal(err)
	}
	bomb := []byte{0xdd, 0xff, 0xff, 0xff, 0xff}
	if n := testing.AllocsPerRun(100, func() { _ = Check(b, Limits{}); _ = Check(bomb, Limits{}) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		in   any
		path string
		want error
	}{
		{"unknown field", map[string]any{"nope": 1}, "", ErrField},
		{"unknown field inside", map[string]any{"list": []any{map[string]any{}, map[string]any{"c": 1}}}, "list.1", ErrField},
		{"int8 over", map[string]any{"i8": 128}, "i8", ErrField},
		{"int8 under", map[string]any{"i8": -129}, "i8", ErrField},
		{"int32 cut", map[string]any{"in": map[string]any{"a": int64(1)<<32 + 5}}, "in.a", ErrField},
		{"negative into unsigned", map[string]any{"u64": -1}, "u64", ErrField},
		{"unsigned into signed", map[string]any{"ints": []uint64{math.MaxUint64}}, "ints.0", ErrField},
		{"float into int", map[string]any{"i8": 1.5}, "i8", ErrField},
		{"string into int", map[string]any{"i8": "1"}, "i8", ErrField},
		{"float32 over", map[string]any{"f32": 1e300}, "f32", ErrField},
		{"int into bool", map[string]any{"ok": 1}, "ok", ErrField},
		{"wrong array length", map[string]any{"hash": []byte{1}}, "hash", ErrField},
		{"array into struct", map[string]any{"in": []int{1}}, "in", ErrField},
		{"map into slice", map[string]any{"ints": map[string]int{}}, "ints", ErrField},
		{"string key of int map", map[string]any{"bias": map[string]int{"a": 1}}, "", ErrField},
		{"number as time", map[string]any{"when": 5}, "when", ErrField},
	} {
		b, err := Marshal(c.in)
		if err != nil {
			t.Fatal(err)
		}
		var s sample
		err = Unmarshal(b, &s, Limits{})
		var e *Error
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		} else if c.path != "" && (!errors.As(err, &e) || e.Path != c.path) {
			t.Errorf("%s: path in %q, want %q", c.name, err, c.path)
		}
	}
}

func TestUnmarshalRefusesBytes(t *testing.T) {
	var s sample
	for name, b := range map[string]string{
		"repeated field":       "\x82\xa2i8\x01\xa2i8\x02",
		"repeated map key":     "\x81\xa4bias\x82\x01\x01\x01\x02",
		"repeated key in any":  "\x81\xa3any\x82\xa1a\x01\xa1a\x02",
		"field name not a str": "\x81\x01\x01",
		"invalid UTF-8":        "\x81\xa1s\xa1\xff",
		"time of 2e9 ns":       "\x81\xa4when\xc7\x0c\xff\x77\x35\x94\x00\x00\x00\x00\x00\x00\x00\x00\x00",
	} {
		if err := Unmarshal([]byte(b), &s, Limits{}); !errors.Is(err, ErrField) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	type fat struct{ A [512]byte }
	var many []fat
	bomb := append([]byte{0xdc, 0x10, 0x00}, bytes.Repeat([]byte{0x80}, 4096)...)
	if err := Unmarshal(bomb, &many, Limits{}); !errors.Is(err, ErrLimit) {
		t.Errorf("2 MiB out of 4 KiB: got %v", err)
	}
	if err := Unmarshal([]byte{1}, s, Limits{}); err == nil {
		t.Error("decoded into a value that is no pointer")
	}
}

func TestLenient(t *testing.T) {
	in := map[string]any{"s": nil, "ptr": nil, "list": nil, "f32": float64(0.1), "f64": 3, "raw": "text"}
	b, err := Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	s := sample{S: "old", Ptr: &inner{}}
	if err := Unmarshal(b, &s, Limits{}); err != nil {
		t.Fatal(err)
	}
	if s.S != "" || s.Ptr != nil || s.F32 != 0.1 || s.F64 != 3 || string(s.Raw) != "text" {
		t.Errorf("got %+v", s)
	}
}

// oneOrMany shows a type with its own form: a string or a list of strings.
type oneOrMany []string

func (o *oneOrMany) UnmarshalMsgpack(b []byte) error {
	var s string
	if Unmarshal(b, &s, Limits{}) == nil {
		*o = oneOrMany{s}
		return nil
	}
	return Unmarshal(b, (*[]string)(o), Limits{})
}

func (o oneOrMany) MarshalMsgpack() ([]byte, error) {
	if len(o) == 1 {
		return Marshal(o[0])
	}
	return Marshal([]string(o))
}

func TestCustom(t *testing.T) {
	type req struct {
		Stop oneOrMany  `msgpack:"stop"`
		Opt  *oneOrMany `msgpack:"opt"`
	}
	for _, want := range []req{{Stop: oneOrMany{"a"}}, {Stop: oneOrMany{"a", "b"}, Opt: &oneOrMany{"c"}}} {
		b, err := Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got req
		if err := Unmarshal(b, &got, Limits{}); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	b, _ := Marshal(map[string]any{"stop": []int{1}})
	var e *Error
	if err := Unmarshal(b, new(req), Limits{}); !errors.As(err, &e) || e.Path != "stop.0" {
		t.Errorf("got %v, want the path stop.0", err)
	}
}

func TestMarshalRefuses(t *testing.T) {
	type loop struct{ Next *loop }
	l := &loop{}
	l.Next = l
	for _, v := range []any{make(chan int), func() {}, 1i, map[float64]int{1: 1}, l} {
		if b, err := Marshal(v); err == nil {
			t.Errorf("%T gave %x", v, b)
		}
	}
}

func TestRead(t *testing.T) {
	var stream []byte
	values := []any{map[string]any{"a": int64(1)}, "x", int64(-5), []any{[]any{}, nil}, strings.Repeat("y", 70000)}
	for _, v := range values {
		stream, _ = Append(stream, v)
	}
	lim := Limits{Bytes: 1 << 20}
	r := bufio.NewReaderSize(bytes.NewReader(stream), 16)
	var buf []byte
	for _, want := range values {
		var err error
		if buf, err = Read(r, buf, lim); err != nil {
			t.Fatal(err)
		}
		var got any
		if err := Unmarshal(buf, &got, lim); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %v, %v", got, err)
		}
	}
	if _, err := Read(r, buf, lim); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	for i := 1; i < 19; i++ {
		r := bufio.NewReader(strings.NewReader("\x82\xa1a\xcd\x01\x02\xa1b\x93\x01\x02\xa7cccccccc"[:i]))
		if _, err := Read(r, nil, lim); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	for _, bad := range []string{"\xdb\xff\xff\xff\xff", "\xdd\xff\xff\xff\xff", "\xdf\x00\x00\x20\x00", strings.Repeat("\x91", 100)} {
		if _, err := Read(bufio.NewReader(strings.NewReader(bad)), nil, lim); !errors.Is(err, ErrLimit) {
			t.Errorf("%x: %v", bad[:5], err)
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	full, _ := Marshal(sample{Any: map[string]any{"k": []any{1, "s"}}, Labels: map[string]string{"a": "b"}, List: []inner{{}}})
	f.Add(full)
	f.Add([]byte{0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte("\x81\xa4when\xd6\xff\x00\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s sample
		err := Unmarshal(b, &s, Limits{})
		if err == nil {
			again, err := Marshal(s)
			if err != nil {
				t.Fatalf("decoded, but cannot be encoded: %v", err)
			}
			if err := Unmarshal(again, new(sample), Limits{Bytes: 1 << 20}); err != nil {
				t.Fatalf("own encoding refused: %v", err)
			}
		}
		var x any
		_ = Unmarshal(b, &x, Limits{})
		checked := Check(b, Limits{})
		got, err := Read(bufio.NewReader(bytes.NewReader(b)), nil, Limits{})
		if checked == nil && (err != nil || !bytes.Equal(got, b)) {
			t.Fatalf("Check passed, Read gave %x, %v", got, err)
		}
		if err == nil && Check(got, Limits{}) != nil {
			t.Fatalf("Read took %x, which Check refuses", got)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	m, _ := Marshal(map[string]any{"v": 1, "node": "n1", "route": []any{"n1", 0, 10, "n2", 10, 20}, "t": 0.5})
	b.SetBytes(int64(len(m)))
	for b.Loop() {
		if err := Check(m, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}
