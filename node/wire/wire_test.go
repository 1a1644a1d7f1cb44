package wire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"net/netip"
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

type sample struct {
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
	E      uint16
	Skip   chan int `msgpack:"-"`
}

// encode writes what only a foreign encoder would: values without a type of ours.
func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := msgpack.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func full() sample {
	return sample{
		I8: -128, U64: math.MaxUint64, F32: 1.5, F64: math.Pi, S: "größe",
		Raw: []byte{0, 255}, Hash: [4]byte{1, 2, 3, 4}, Ints: []int64{0, -1, -33, 127, 128, 1 << 40, math.MinInt64},
		In: inner{A: 5}, Ptr: &inner{B: "p"}, List: []inner{{A: 1}, {B: "z"}}, Bias: map[int32]float32{-1: 2, 70000: -3, 5: 1, 0: 0},
		Labels: map[string]string{"b": "2", "a": "1"}, When: time.Unix(1790820184, 5), OK: true, E: 7,
	}
}

func TestRoundTrip(t *testing.T) {
	in := full()
	b, err := Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	out := sample{S: "old", Labels: map[string]string{"old": "x"}}
	if err := Unmarshal(b, &out, Limits{}); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(in, out) {
		t.Errorf("got %+v\nwant %+v", out, in)
	}
	for range 20 { // Go walks maps in another order each time
		if again, _ := Append([]byte("x"), &out); string(again) != "x"+string(b) {
			t.Fatal("equal values gave different bytes")
		}
	}
	if !bytes.Contains(b, []byte("\xa4bias\x84\xff\xca\x40\x00\x00\x00\x00\xca\x00\x00\x00\x00\x05")) {
		t.Errorf("bias is not sorted or not compact in %x", b)
	}
	if bytes.Contains(b, []byte("Skip")) {
		t.Errorf("%q has a field that is left out", b)
	}
}

// TestOwnEncodingIsTaken: whatever is sent is what the other side takes, and says the same there.
func TestOwnEncodingIsTaken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type msg struct {
			A int64
			U uint64
			F float64
			S string
			B []byte
			L []int32
			M map[string]int16
			N map[uint64]map[int8]string
			P **int
			T *time.Time
		}
		number := rapid.Int().Draw(t, "p")
		ptr := &number
		when := time.Unix(rapid.Int64Range(-1<<40, 1<<40).Draw(t, "sec"), rapid.Int64Range(0, 999999999).Draw(t, "ns"))
		in := msg{
			A: rapid.Int64().Draw(t, "a"), U: rapid.Uint64().Draw(t, "u"), F: rapid.Float64().Draw(t, "f"),
			S: rapid.StringN(0, 300, -1).Draw(t, "s"), B: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "b"),
			L: rapid.SliceOfN(rapid.Int32(), 0, 40).Draw(t, "l"),
			M: rapid.MapOfN(rapid.StringN(0, 9, -1), rapid.Int16(), 0, 20).Draw(t, "m"),
			N: rapid.MapOfN(rapid.Uint64(), rapid.MapOf(rapid.Int8(), rapid.String()), 0, 20).Draw(t, "n"),
			P: &ptr, T: &when,
		}
		b, err := Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var out msg
		if err := Unmarshal(b, &out, Limits{}); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(in, out) {
			t.Fatalf("in  %+v\nout %+v", in, out)
		}
	})
}

func TestInvalidUTF8IsReplaced(t *testing.T) {
	in := sample{S: "a\xff\xfe", Labels: map[string]string{"z": "\xff", "a": "b\xc3"}, List: []inner{{B: "\xe2\x82"}, {B: strings.Repeat("\xffx", 40)}}}
	b, err := Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var got sample
	if err := Unmarshal(b, &got, Limits{}); err != nil {
		t.Fatal(err)
	}
	if got.S != "a\uFFFD" || got.Labels["z"] != "\uFFFD" || got.Labels["a"] != "b\uFFFD" || got.List[0].B != "\uFFFD" || got.List[1].B != strings.Repeat("\uFFFDx", 40) {
		t.Errorf("got %+v", got)
	}
}

// TestPython decodes what Python's msgpack 1.2.4 makes of
// {"i8": -128, "u64": 2**64-1, "f32": 0.1, "f64": 0.1, "s": "größe", "raw": b"\x00\xff", "ints": [1, -1, 2**40], "in": {"a": -5},
// "ptr": None, "list": [{"a": 1}, {"b": "z"}], "bias": {50256: -100, "11": 1.5, -7: 2.0}, "when": Timestamp(1790820184, 5), "ok": True}.
func TestPython(t *testing.T) {
	b, err := hex.DecodeString("8da26938d080a3753634cfffffffffffffffffa3663332cb3fb999999999999aa3663634cb3fb999999999999aa173a76772c3b6c39f65" +
		"a3726177c40200ffa4696e74739301ffcf0000010000000000a2696e81a161fba3707472c0a46c6973749281a1610181a162a17aa46269617383cdc450d09ca23131" +
		"cb3ff8000000000000f9cb4000000000000000a47768656ed7ff000000146abdbf58a26f6bc3")
	if err != nil {
		t.Fatal(err)
	}
	var got sample
	if err := Unmarshal(b, &got, Limits{}); err != nil {
		t.Fatal(err)
	}
	want := sample{
		I8: -128, U64: math.MaxUint64, F32: 0.1, F64: 0.1, S: "größe", Raw: []byte{0, 255}, Ints: []int64{1, -1, 1 << 40}, In: inner{A: -5},
		List: []inner{{A: 1}, {B: "z"}}, Bias: map[int32]float32{50256: -100, 11: 1.5, -7: 2}, When: time.Unix(1790820184, 5), OK: true,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestNumbers meets every form of an integer with every type: the value arrives, or is refused because it does not fit.
func TestNumbers(t *testing.T) {
	values := []string{"0", "1", "-1", "5", "-32", "-33", "127", "128", "-128", "-129", "255", "256", "32767", "32768", "-32769", "65535", "65536",
		"2147483647", "2147483648", "-2147483648", "-2147483649", "4294967295", "4294967301", "9223372036854775807", "-9223372036854775808",
		"9223372036854775808", "18446744073709551615"}
	for _, value := range values {
		n, _ := new(big.Int).SetString(value, 10)
		for code, size := range map[byte]int{0: 0, 0xcc: 1, 0xcd: 2, 0xce: 4, 0xcf: 8, 0xd0: 1, 0xd1: 2, 0xd2: 4, 0xd3: 8} {
			b, ok := integerAs(n, code, size)
			if !ok {
				continue
			}
			for _, p := range []any{new(int), new(int8), new(int16), new(int32), new(int64), new(uint), new(uint8), new(uint16), new(uint32), new(uint64)} {
				err := Unmarshal(b, p, Limits{})
				got := fmt.Sprint(reflect.ValueOf(p).Elem())
				if fits := fitsInto(n, reflect.TypeOf(p).Elem()); fits && (err != nil || got != value) || !fits && !errors.Is(err, ErrField) {
					t.Errorf("%s as %x into %T: %s, %v", value, b, p, got, err)
				}
			}
			var f64 float64
			var f32 float32
			if err := errors.Join(Unmarshal(b, &f64, Limits{}), Unmarshal(b, &f32, Limits{})); err != nil {
				t.Errorf("%s as %x into floats: %v", value, b, err)
			}
			if want, _ := new(big.Float).SetInt(n).Float64(); f64 != want || f32 != float32(want) {
				t.Errorf("%s as %x: %v and %v", value, b, f64, f32)
			}
		}
	}
}

// integerAs is n under the given code, 0 for the forms of one byte, if it can be had.
func integerAs(n *big.Int, code byte, size int) ([]byte, bool) {
	low, high := big.NewInt(-32), big.NewInt(127)
	one := big.NewInt(1)
	if code >= 0xd0 {
		high = new(big.Int).Sub(new(big.Int).Lsh(one, uint(8*size-1)), one)
		low = new(big.Int).Not(high)
	} else if code != 0 {
		low, high = new(big.Int), new(big.Int).Sub(new(big.Int).Lsh(one, uint(8*size)), one)
	}
	if n.Cmp(low) < 0 || n.Cmp(high) > 0 {
		return nil, false
	}
	bits := n.Uint64()
	if n.Sign() < 0 {
		bits = uint64(n.Int64())
	}
	if code == 0 {
		return []byte{byte(bits)}, true
	}
	all := binary.BigEndian.AppendUint64(nil, bits)
	return append([]byte{code}, all[8-size:]...), true
}

func fitsInto(n *big.Int, t reflect.Type) bool {
	if t.Kind() <= reflect.Int64 {
		return n.IsInt64() && !t.OverflowInt(n.Int64())
	}
	return n.IsUint64() && !t.OverflowUint(n.Uint64())
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
	b := encode(t, map[string]any{"seq": 1, "route": []any{"n1", "n2", "n3"}, "params": map[string]any{"t": 0.5}})
	bomb := []byte{0xdd, 0xff, 0xff, 0xff, 0xff}
	if n := testing.AllocsPerRun(100, func() { _ = Check(b, Limits{}); _ = Check(bomb, Limits{}) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	in := full()
	in.Bias, in.Labels = nil, nil
	if b, _ = Marshal(in); b == nil {
		t.Fatal("no encoding")
	}
	s, _ := shapeOf(reflect.TypeFor[sample]())
	if n := testing.AllocsPerRun(100, func() { w := walk{b: b, memory: math.MaxInt}; _ = w.value(s) }); n != 0 {
		t.Errorf("%v allocations of a walk without maps", n)
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
		{"no number as key of int map", map[string]any{"bias": map[string]int{"a": 1}}, "bias", ErrField},
		{"key of int map out of range", map[string]any{"bias": map[int64]int{1 << 31: 1}}, "bias", ErrField},
		{"string key of int map out of range", map[string]any{"bias": map[string]int{"2147483648": 1}}, "bias", ErrField},
		{"wrong value in a map", map[string]any{"bias": map[int]string{7: "x"}}, "bias.7", ErrField},
		{"number as time", map[string]any{"when": 5}, "when", ErrField},
		{"nil as time", map[string]any{"when": nil}, "when", ErrField},
		{"text as time", map[string]any{"when": "2026-01-01T00:00:00Z"}, "when", ErrField},
		{"array as bytes", map[string]any{"raw": []int{1}}, "raw", ErrField},
	} {
		var s sample
		err := Unmarshal(encode(t, c.in), &s, Limits{})
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
		"repeated as a string": "\x81\xa4bias\x83\x01\x01\x05\x02\xa11\x02",
		"repeated string key":  "\x81\xa6labels\x83\xa1b\xa0\xa1a\xa0\xa1b\xa0",
		"string key in bin":    "\x81\xa6labels\x81\xc4\x01b\xa0",
		"struct as an array":   "\x92\x01\x02",
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
	in := map[string]any{"s": nil, "ptr": nil, "list": nil, "in": nil, "hash": nil, "labels": nil, "ok": nil, "i8": nil, "f32": float64(0.1), "f64": 3, "raw": "text"}
	s := sample{S: "old", Ptr: &inner{}, Hash: [4]byte{1}, Labels: map[string]string{"a": "b"}, U64: 5}
	if err := Unmarshal(encode(t, in), &s, Limits{}); err != nil {
		t.Fatal(err)
	}
	if want := (sample{F32: 0.1, F64: 3, Raw: []byte("text")}); !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v", s)
	}
}

type selfCoded struct{ A int }

func (*selfCoded) UnmarshalMsgpack([]byte) error { return nil }

// TestTypesRefused: types that the library would decode past the walk, or encode without end, are refused before it sees them.
func TestTypesRefused(t *testing.T) {
	type loop struct{ Next *loop }
	type list []list
	type embeds struct{ inner }
	type twice struct {
		A int `json:"b"`
		B int `msgpack:"b"`
	}
	l := &loop{}
	l.Next = l
	for _, v := range []any{
		make(chan int), func() {}, 1i, map[float64]int{1: 1}, l, list{}, uintptr(1), []any{1}, map[string]any{}, struct{ E error }{},
		selfCoded{}, []*selfCoded{}, map[netip.Addr]int{}, embeds{}, twice{},
	} {
		if b, err := Marshal(v); err == nil {
			t.Errorf("%T gave %x", v, b)
		}
		p := reflect.New(reflect.TypeOf(v))
		if err := Unmarshal([]byte{0xc0}, p.Interface(), Limits{}); err == nil {
			t.Errorf("%T was decoded into", v)
		}
	}
	if b, err := Marshal(nil); err == nil {
		t.Errorf("nil gave %x", b)
	}
}

func TestRead(t *testing.T) {
	var stream []byte
	values := []any{map[string]any{"a": int64(1)}, "x", int64(-5), []any{[]any{}, nil}, strings.Repeat("y", 70000)}
	for _, v := range values {
		stream = append(stream, encode(t, v)...)
	}
	lim := Limits{Bytes: 1 << 20}
	r := bufio.NewReaderSize(bytes.NewReader(stream), 16)
	var buf []byte
	for _, want := range values {
		var err error
		if buf, err = Read(r, buf, lim); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(buf, encode(t, want)) {
			t.Fatalf("got %x for %v", buf, want)
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
	all, err := Marshal(full())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(all)
	f.Add([]byte{0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte("\x81\xa4when\xd6\xff\x00\x00\x00\x01"))
	f.Add([]byte("\x82\xa4bias\x82\xa3-77\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\x05\x01\xa3f32\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"))
	shape, err := shapeOf(reflect.TypeFor[sample]())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		checked := Check(b, Limits{})
		var s sample
		if err := Unmarshal(b, &s, Limits{}); err == nil {
			again, err := Marshal(s)
			if err != nil {
				t.Fatalf("decoded, but cannot be encoded: %v", err)
			}
			if err := Unmarshal(again, new(sample), Limits{Bytes: 1 << 20}); err != nil {
				t.Fatalf("own encoding refused: %v", err)
			}
		} else if w := (walk{b: b, memory: math.MaxInt}); checked == nil && !errors.Is(err, ErrLimit) && w.value(shape) == nil {
			t.Fatalf("the library refuses what the walk let pass: %v", err)
		}
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
	m := encode(b, map[string]any{"v": 1, "node": "n1", "route": []any{"n1", 0, 10, "n2", 10, 20}, "t": 0.5})
	b.SetBytes(int64(len(m)))
	for b.Loop() {
		if err := Check(m, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

// opening is about what a sequence is opened with between peers (node/peer).
type opening struct {
	Model     string            `msgpack:"model"`
	Route     []hop             `msgpack:"route"`
	Gateway   string            `msgpack:"gateway"`
	Positions int               `msgpack:"positions"`
	Temp      float32           `msgpack:"temperature"`
	TopP      float32           `msgpack:"top_p"`
	Seed      uint64            `msgpack:"seed"`
	EOS       []int32           `msgpack:"eos,omitempty"`
	Bias      map[int32]float32 `msgpack:"logit_bias,omitempty"`
	History   []byte            `msgpack:"history,omitempty"`
	Trace     string            `msgpack:"trace,omitempty"`
}

type hop struct {
	Node  string `msgpack:"node"`
	First int    `msgpack:"first"`
	End   int    `msgpack:"end"`
}

func typical() *opening {
	return &opening{
		Model: "sha256:" + strings.Repeat("0123456789abcdef", 4), Route: []hop{{"n1", 0, 10}, {"n2", 10, 20}, {"n3", 20, 30}}, Gateway: "n1",
		Positions: 2048, Temp: 0.7, TopP: 0.95, Seed: 1 << 60, EOS: []int32{2, 151645}, Trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	}
}

func BenchmarkAppend(b *testing.B) {
	v := typical()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = Append(buf[:0], v); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkUnmarshal(b *testing.B) {
	m, err := Marshal(typical())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(m)))
	for b.Loop() {
		var o opening
		if err := Unmarshal(m, &o, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}
