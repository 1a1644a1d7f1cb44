package peer

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"lamina/node/wire"
	"lamina/shard/pipeline"
	"lamina/shard/sample"
)

// codecFrames has a frame of every kind and shape.
func codecFrames() map[string]*pipeline.Frame {
	open := &pipeline.OpenRequest{
		Model: "sha256:0123", Route: []pipeline.Hop{{Node: "n1", First: 0, End: 3}, {Node: "n2", First: 3, End: 9}}, Gateway: "n3",
		Positions: 300, Prompt: 100, Known: 101, MaxNew: 200, EOS: []int32{2, 7}, Sampling: sample.Default(), PromptLogprobs: true,
		History: []int32{5, -1, 1 << 30}, Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", TTL: 90 * time.Second,
	}
	open.Sampling.Seed, open.Sampling.LogitBias = math.MaxUint64, map[int32]float32{3: -100, 9: 0.5}
	tok := sample.Token{ID: 77, Logprob: -0.25, Top: []sample.Alt{{ID: 77, Logprob: -0.25}, {ID: 3, Logprob: -4}}}
	id := func(f pipeline.Frame) *pipeline.Frame {
		f.Seq, f.Epoch, f.Attempt, f.Stage, f.Spent = 0x1122334455667788, 42, 3, 1, 1500
		return &f
	}
	return map[string]*pipeline.Frame{
		"open":         id(pipeline.Frame{Kind: pipeline.KindOpen, Open: open}),
		"bare open":    id(pipeline.Frame{Kind: pipeline.KindOpen, Open: &pipeline.OpenRequest{}}),
		"tokens":       id(pipeline.Frame{Kind: pipeline.KindStep, Flags: pipeline.FlagPrompt, Pos: 7, Count: 3, Tokens: []int32{1, -2, math.MaxInt32}}),
		"activations":  id(pipeline.Frame{Kind: pipeline.KindStep, Flags: pipeline.FlagSample, Pos: 9, Count: 2, X: []float32{1, -0.5, 3e38, 1e-45, 0, 2}}),
		"token":        id(pipeline.Frame{Kind: pipeline.KindToken, Flags: pipeline.FlagCopy, Pos: 101, Count: 1, ID: 77}),
		"last":         id(pipeline.Frame{Kind: pipeline.KindToken, Flags: pipeline.FlagLast | pipeline.FlagEOS, Pos: 101, Count: 1, ID: 2}),
		"none":         id(pipeline.Frame{Kind: pipeline.KindToken, Flags: pipeline.FlagLast, Pos: 100}),
		"scored token": id(pipeline.Frame{Kind: pipeline.KindToken, Pos: 101, Count: 1, ID: 77, Scores: []sample.Token{tok}}),
		"scores":       id(pipeline.Frame{Kind: pipeline.KindToken, Flags: pipeline.FlagPrompt, Pos: 1, Count: 2, Scores: []sample.Token{tok, {ID: 1, Logprob: -9}}}),
		"credit":       id(pipeline.Frame{Kind: pipeline.KindCredit, Pos: 64}),
		"close":        id(pipeline.Frame{Kind: pipeline.KindClose, Flags: pipeline.FlagLast}),
		"fail":         id(pipeline.Frame{Kind: pipeline.KindFail, Fail: &pipeline.Failure{Kind: pipeline.PeerLost, Node: "n2", Text: "it is gone: ü"}}),
	}
}

func encode(t testing.TB, f *pipeline.Frame) []byte {
	t.Helper()
	b, err := AppendFrame(nil, f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func decode(b []byte) (*pipeline.Frame, error) {
	return NewFrameReader(bufio.NewReaderSize(bytes.NewReader(b), 64), 0).Read()
}

// sameFrame compares all that travels. Bits of floats count, so NaN equals NaN.
func sameFrame(a, b *pipeline.Frame) error {
	x, y := *a, *b
	if !slices.Equal(bitsOf(x.X), bitsOf(y.X)) || !slices.Equal(x.Tokens, y.Tokens) {
		return fmt.Errorf("payload %v %v, want %v %v", x.X, x.Tokens, y.X, y.Tokens)
	}
	if s, w := fmt.Sprintf("%+v %+v %+v", x.Open, x.Fail, x.Scores), fmt.Sprintf("%+v %+v %+v", y.Open, y.Fail, y.Scores); s != w {
		return fmt.Errorf("content\n%s, want\n%s", s, w)
	}
	head := func(f pipeline.Frame) string {
		return fmt.Sprint(f.Kind, f.Flags, f.Stage, f.Seq, f.Epoch, f.Attempt, f.Pos, f.Count, f.Spent, f.ID)
	}
	if head(x) != head(y) {
		return fmt.Errorf("header %s, want %s", head(x), head(y))
	}
	return nil
}

func bitsOf(x []float32) []uint32 {
	var out []uint32
	for _, v := range x {
		out = append(out, math.Float32bits(v))
	}
	return out
}

func TestFrameRoundTrip(t *testing.T) {
	var stream []byte
	var want []*pipeline.Frame
	for name, f := range codecFrames() {
		got, err := decode(encode(t, f))
		if err == nil {
			err = sameFrame(got, f)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		stream = append(AppendBeat(stream), encode(t, f)...)
		want = append(want, f)
	}
	// In a stream, with signs of life between, byte by byte, through buffers of every kind.
	for _, size := range []int{64, 100, 4096, 1 << 20} {
		r := NewFrameReader(bufio.NewReaderSize(iotest.OneByteReader(bytes.NewReader(stream)), size), 0)
		for _, f := range want {
			if beat, err := r.Read(); beat != nil || err != nil {
				t.Fatalf("sign of life: %v, %v", beat, err)
			}
			got, err := r.Read()
			if err == nil {
				err = sameFrame(got, f)
			}
			if err != nil {
				t.Fatalf("buffer of %d: %v", size, err)
			}
			got.Release() // the next frame may use its memory
		}
		if _, err := r.Read(); err != io.EOF {
			t.Errorf("at the end: %v, want EOF", err)
		}
	}
}

// The bytes are a contract between versions: this test may only grow.
func TestFrameBytes(t *testing.T) {
	frames := codecFrames()
	for _, c := range []struct{ name, want string }{
		{"tokens", "0c000000 02 01 01 00 8877665544332211 2a00000000000000 03000000 0100 0000 07000000 03000000 dc050000 CRC 01000000 feffffff ffffff7f"},
		{"activations", "18000000 02 02 02 00 8877665544332211 2a00000000000000 03000000 0100 0000 09000000 02000000 dc050000 CRC 0000803f 000000bf e6b1617f 01000000 00000000 00000040"},
		{"token", "04000000 03 10 01 00 8877665544332211 2a00000000000000 03000000 0100 0000 65000000 01000000 dc050000 CRC 4d000000"},
		{"none", "00000000 03 04 00 00 8877665544332211 2a00000000000000 03000000 0100 0000 64000000 00000000 dc050000 CRC"},
		{"scored token", "1c000000 03 00 04 00 8877665544332211 2a00000000000000 03000000 0100 0000 65000000 01000000 dc050000 CRC 4d000000 000080be 02000000 4d000000 000080be 03000000 000080c0"},
		{"credit", "00000000 04 00 00 00 8877665544332211 2a00000000000000 03000000 0100 0000 40000000 00000000 dc050000 CRC"},
		{"close", "00000000 05 04 00 00 8877665544332211 2a00000000000000 03000000 0100 0000 00000000 00000000 dc050000 CRC"},
		{"fail", "23000000 06 00 03 00 8877665544332211 2a00000000000000 03000000 0100 0000 00000000 00000000 dc050000 CRC " +
			"83 a46b696e6409 a46e6f6465 a26e32 a474657874 ae697420697320676f6e653a20c3bc"},
	} {
		b := encode(t, frames[c.name])
		sum := crc32.Update(crc32.Checksum(b[:44], crc32.MakeTable(crc32.Castagnoli)), crc32.MakeTable(crc32.Castagnoli), b[48:])
		crc := fmt.Sprintf("%02x%02x%02x%02x", byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24))
		want := strings.ReplaceAll(strings.Replace(c.want, "CRC", crc, 1), " ", "")
		if got := hex.EncodeToString(b); got != want {
			t.Errorf("%s:\n%s, want\n%s", c.name, got, want)
		}
	}
	if got, want := hex.EncodeToString(AppendBeat(nil)), strings.Repeat("00", 44)+"5c3d2b68"; got != want {
		t.Errorf("sign of life: %s, want %s", got, want)
	}
}

func TestFrameCutShort(t *testing.T) {
	for name, f := range codecFrames() {
		b := encode(t, f)
		for n := range b {
			want := io.ErrUnexpectedEOF
			if n == 0 {
				want = io.EOF
			}
			if _, err := decode(b[:n]); err != want {
				t.Fatalf("%s, %d of %d bytes: %v, want %v", name, n, len(b), err, want)
			}
		}
	}
}

// A flipped bit anywhere must not give a frame.
func TestFrameFlippedBits(t *testing.T) {
	for name, f := range codecFrames() {
		b := encode(t, f)
		for bit := range 8 * len(b) {
			bad := bytes.Clone(b)
			bad[bit/8] ^= 1 << (bit % 8)
			if got, err := decode(append(bad, make([]byte, 64)...)); err == nil {
				t.Fatalf("%s, bit %d: read as %+v", name, bit, got)
			} else if !errors.Is(err, ErrProtocol) && err != io.ErrUnexpectedEOF {
				t.Fatalf("%s, bit %d: %v", name, bit, err)
			}
		}
	}
}

// patched returns an encoding with bytes changed and a checksum that fits: what a hostile node could send.
func patched(b []byte, at int, with ...byte) []byte {
	b = bytes.Clone(b)
	copy(b[at:], with)
	return seal(b, 0)
}

func TestFrameHostile(t *testing.T) {
	frames := codecFrames()
	activations, scores, token := encode(t, frames["activations"]), encode(t, frames["scores"]), encode(t, frames["token"])
	for name, b := range map[string][]byte{
		"unknown kind":       patched(activations, offKind, 9),
		"unknown flag":       patched(activations, offFlags, 0x80),
		"unknown type":       patched(activations, offType, 5),
		"type of another":    patched(activations, offType, typeMap),
		"reserved":           patched(activations, offZero1, 1),
		"reserved too":       patched(activations, offZero2, 0, 1),
		"no rows":            patched(activations, offCount, 0, 0, 0, 0),
		"part of a row":      patched(activations, offCount, 4),
		"huge count":         patched(activations, offCount, 0, 0, 0, 0x80),
		"huge position":      patched(activations, offPos, 1, 0, 0, 1),
		"tokens in a token":  seal(append(patched(token, offCount, 2), 1, 2, 3, 4), 0),
		"more alternatives":  patched(scores, FrameHeader+8, 3),
		"many alternatives":  patched(scores, FrameHeader+8, 0xff, 0xff, 0xff, 0xff),
		"scores for more":    patched(scores, offCount, 3),
		"two scores a token": patched(scores, offFlags, 0),
		"empty map":          seal(append(patched(encode(t, frames["credit"]), offKind, 1, 0, typeMap), 0x80)[:FrameHeader], 0),
		"no such fail":       patched(encode(t, frames["fail"]), FrameHeader+6, 11),
		"open of a fail":     patched(encode(t, frames["fail"]), offKind, 1),
	} {
		if f, err := decode(b); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %+v, error %v, want ErrProtocol", name, f, err)
		}
	}
	for name, change := range map[string]func(*pipeline.OpenRequest){
		"model":     func(o *pipeline.OpenRequest) { o.Model = strings.Repeat("m", pipeline.MaxName+1) },
		"hops":      func(o *pipeline.OpenRequest) { o.Route = make([]pipeline.Hop, pipeline.MaxHops+1) },
		"end":       func(o *pipeline.OpenRequest) { o.EOS = make([]int32, pipeline.MaxEOS+1) },
		"positions": func(o *pipeline.OpenRequest) { o.Positions = pipeline.MaxContext + 1 },
		"negative":  func(o *pipeline.OpenRequest) { o.MaxNew = -1 },
		"life":      func(o *pipeline.OpenRequest) { o.TTL = -time.Second },
	} {
		o := *frames["open"].Open
		change(&o)
		if _, err := AppendFrame(nil, &pipeline.Frame{Kind: pipeline.KindOpen, Open: &o}); !errors.Is(err, ErrProtocol) {
			t.Errorf("open with a bad %s is sent: %v", name, err)
		}
		b := encode(t, frames["bare open"])[:FrameHeader]
		b, err := wire.Append(b, openToWire(&o))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(seal(b, 0)); !errors.Is(err, ErrProtocol) {
			t.Errorf("open with a bad %s is read: %v", name, err)
		}
	}
}

func TestFrameThatMayNotBeSent(t *testing.T) {
	for name, f := range map[string]*pipeline.Frame{
		"no kind":      {},
		"kind":         {Kind: 77},
		"flags":        {Kind: pipeline.KindClose, Flags: 0x80},
		"no open":      {Kind: pipeline.KindOpen},
		"no fail":      {Kind: pipeline.KindFail},
		"no rows":      {Kind: pipeline.KindStep, Count: 1},
		"too many":     {Kind: pipeline.KindStep, Count: 1, Tokens: []int32{1, 2}},
		"part of rows": {Kind: pipeline.KindStep, Count: 2, X: []float32{1, 2, 3}},
		"bad trace":    {Kind: pipeline.KindOpen, Open: &pipeline.OpenRequest{Trace: "\xff"}},
		"not UTF-8":    {Kind: pipeline.KindFail, Fail: &pipeline.Failure{Kind: 1, Text: "\xff"}},
	} {
		before := []byte("before")
		if b, err := AppendFrame(before, f); err == nil || !bytes.Equal(b, before) {
			t.Errorf("%s: %q, error %v", name, b, err)
		}
	}
}

// A node that announces much and sends nothing must not cost memory.
func TestFrameAnnouncedOnly(t *testing.T) {
	b := encode(t, codecFrames()["activations"])
	copy(b[offLength:], []byte{0, 0, 0, 1}) // 16 MiB
	copy(b[offCount:], []byte{1, 0, 0, 0})
	b = b[:FrameHeader]
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := decode(b); err != io.ErrUnexpectedEOF {
		t.Fatalf("error %v", err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 256<<10 {
		t.Errorf("%d bytes were allocated for an announcement", n)
	}
	copy(b[offLength:], []byte{1, 0, 0, 2}) // over the limit
	if _, err := decode(b); !errors.Is(err, ErrProtocol) {
		t.Errorf("over the limit: %v", err)
	}
}

// loop is a reader that repeats the same bytes for ever.
type loop struct {
	b  []byte
	at int
}

func (l *loop) Read(p []byte) (int, error) {
	n := copy(p, l.b[l.at:])
	l.at = (l.at + n) % len(l.b)
	return n, nil
}

func stepFrame(rows int) *pipeline.Frame {
	f := &pipeline.Frame{Kind: pipeline.KindStep, Seq: 1, Epoch: 2, Stage: 1, Count: uint32(rows), X: make([]float32, rows*2048)}
	for i := range f.X {
		f.X[i] = float32(i)
	}
	return f
}

func TestFrameNoAllocation(t *testing.T) {
	for name, f := range map[string]*pipeline.Frame{"step": stepFrame(1), "token": codecFrames()["token"], "tokens": codecFrames()["tokens"]} {
		buf := encode(t, f)
		r := NewFrameReader(bufio.NewReaderSize(&loop{b: bytes.Clone(buf)}, 64<<10), 0)
		if n := testing.AllocsPerRun(100, func() {
			var err error
			if buf, err = AppendFrame(buf[:0], f); err != nil {
				t.Fatal(err)
			}
			got, err := r.Read()
			if err != nil {
				t.Fatal(err)
			}
			got.Release()
		}); n > 0.5 { // the pool may be emptied by a collection
			t.Errorf("%s: %v allocations a frame", name, n)
		}
	}
}

// FuzzReadFrame: any bytes give frames or an error; what was read can be sent and read again.
func FuzzReadFrame(f *testing.F) {
	for _, fr := range codecFrames() {
		b, err := AppendFrame(nil, fr)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true)
		f.Add(append(b, AppendBeat(nil)...), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix && len(b) >= FrameHeader { // get past the checksum
			b = seal(bytes.Clone(b), 0)
		}
		r := NewFrameReader(bufio.NewReaderSize(bytes.NewReader(b), 64), 1<<20)
		for {
			got, err := r.Read()
			if err != nil {
				return
			}
			if got == nil {
				continue
			}
			out, err := AppendFrame(nil, got)
			if err != nil {
				t.Fatalf("%+v was read and cannot be sent: %v", got, err)
			}
			again, err := decode(out)
			if err == nil {
				err = sameFrame(again, got)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestFrameRandomRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		f := stepFrame(1 + rng.IntN(40))
		f.Seq, f.Epoch, f.Attempt, f.Pos = rng.Uint64(), rng.Uint64(), rng.Uint32(), rng.Uint32N(pipeline.MaxContext)
		f.Stage, f.Spent = uint16(rng.Uint32()), rng.Uint32()
		for i := range f.X {
			f.X[i] = math.Float32frombits(rng.Uint32())
		}
		got, err := decode(encode(t, f))
		if err == nil {
			err = sameFrame(got, f)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if reflect.TypeOf(sample.Params{}).NumField() != reflect.TypeOf(paramsWire{}).NumField() {
		t.Error("sample.Params has fields that do not travel")
	}
}

func BenchmarkFrame(b *testing.B) {
	for _, c := range []struct {
		name string
		f    *pipeline.Frame
	}{{"token", codecFrames()["token"]}, {"decode", stepFrame(1)}, {"chunk256", stepFrame(256)}} {
		buf := encode(b, c.f)
		b.Run(c.name+"/append", func(b *testing.B) {
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for range b.N {
				buf, _ = AppendFrame(buf[:0], c.f)
			}
		})
		b.Run(c.name+"/read", func(b *testing.B) {
			r := NewFrameReader(bufio.NewReaderSize(&loop{b: bytes.Clone(buf)}, 64<<10), 0)
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for range b.N {
				f, err := r.Read()
				if err != nil {
					b.Fatal(err)
				}
				f.Release()
			}
		})
	}
}
