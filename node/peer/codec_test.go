package peer

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
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
		Tenant: "key1", Born: 1 << 50, Keys: []pipeline.Key{{1, 2, 15: 3}, {4}}, Match: 128,
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
		"guesses":      id(pipeline.Frame{Kind: pipeline.KindStep, Flags: pipeline.FlagSample, Pos: 9, Count: 3, X: []float32{1, 2, 3, 4, 5, -6}, Tokens: []int32{-1, 0x7FC12345}}),
		"guessed":      id(pipeline.Frame{Kind: pipeline.KindToken, Pos: 101, Count: 3, Tokens: []int32{5, -1, 7}}),
		"ready":        id(pipeline.Frame{Kind: pipeline.KindReady, Flags: pipeline.FlagCopy, Pos: 64}),
		"names":        id(pipeline.Frame{Kind: pipeline.KindClose, Flags: pipeline.FlagLast | pipeline.FlagEOS, Count: 2, Keys: []pipeline.Key{{1, 2, 15: 3}, {4}}}),
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

// encode is a frame on a link of its own: its binding and itself.
func encode(t testing.TB, f *pipeline.Frame) []byte { return encodeForm(t, f, false) }

func encodeForm(t testing.TB, f *pipeline.Frame, parts bool) []byte {
	t.Helper()
	b, _, err := new(encoder).append(nil, f, parts, math.MaxInt)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// bound is where the frame begins, behind its binding.
const bound = headerSize + bindSize

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
	for _, parts := range []bool{false, true} {
		var stream []byte
		var want []*pipeline.Frame
		var enc encoder
		for name, f := range codecFrames() {
			if parts && (f.Kind == pipeline.KindCredit || f.Kind == pipeline.KindReady || f.Kind == pipeline.KindClose && f.Count == 0 || f.Count == 0 && f.Kind == pipeline.KindToken) {
				continue // nothing to cut
			}
			got, err := decode(encodeForm(t, f, parts))
			if err == nil {
				err = sameFrame(got, f)
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if stream, _, err = enc.append(appendBeat(stream), f, parts, math.MaxInt); err != nil {
				t.Fatal(err)
			}
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
}

// The bytes are a contract between versions: this test may only grow.
func TestFrameBytes(t *testing.T) {
	const bind = "18000000 ff 00 05 00 00000000 00000000 00000000 00000000 CRC 8877665544332211 2a00000000000000 03000000 0100 0000"
	frames := codecFrames()
	for _, c := range []struct {
		name  string
		parts bool
		want  []string
	}{
		{"tokens", false, []string{bind, "0c000000 02 01 01 00 00000000 07000000 03000000 dc050000 CRC 01000000 feffffff ffffff7f"}},
		{"activations", false, []string{bind, "18000000 02 02 02 00 00000000 09000000 02000000 dc050000 CRC 0000803f 000000bf e6b1617f 01000000 00000000 00000040"}},
		{"activations", true, []string{bind, "18000000 02 02 02 01 00000000 09000000 02000000 dc050000 CRC",
			"18000000 fe 00 06 00 00000000 00000000 00000000 00000000 CRC 0000803f 000000bf e6b1617f 01000000 00000000 00000040"}},
		{"token", false, []string{bind, "04000000 03 10 01 00 00000000 65000000 01000000 dc050000 CRC 4d000000"}},
		{"none", false, []string{bind, "00000000 03 04 00 00 00000000 64000000 00000000 dc050000 CRC"}},
		{"scored token", false, []string{bind, "1c000000 03 00 04 00 00000000 65000000 01000000 dc050000 CRC 4d000000 000080be 02000000 4d000000 000080be 03000000 000080c0"}},
		{"credit", false, []string{bind, "00000000 04 00 00 00 00000000 40000000 00000000 dc050000 CRC"}},
		{"close", false, []string{bind, "00000000 05 04 00 00 00000000 00000000 00000000 dc050000 CRC"}},
		{"fail", false, []string{bind, "23000000 06 00 03 00 00000000 00000000 00000000 dc050000 CRC " +
			"83 a46b696e6409 a46e6f6465 a26e32 a474657874 ae697420697320676f6e653a20c3bc"}},
	} {
		b, want := encodeForm(t, frames[c.name], c.parts), ""
		for _, record := range c.want {
			hexes := strings.ReplaceAll(record, " ", "")
			raw, err := hex.DecodeString(strings.Replace(hexes, "CRC", "00000000", 1))
			if err != nil {
				t.Fatal(err)
			}
			want += hex.EncodeToString(sum(raw, 0))
		}
		if got := hex.EncodeToString(b); got != want {
			t.Errorf("%s:\n%s, want\n%s", c.name, got, want)
		}
	}
	if got, want := hex.EncodeToString(appendBeat(nil)), strings.Repeat("00", 24)+"eeecfb84"; got != want {
		t.Errorf("sign of life: %s, want %s", got, want)
	}
	if n := len(encode(t, frames["token"])) - bound; n != 32 {
		t.Errorf("a token back costs %d bytes", n)
	}
}

// The same address goes under the id that the other side knows, until the slot is needed for another.
func TestIDs(t *testing.T) {
	var enc encoder
	r := NewFrameReader(bufio.NewReaderSize(nil, 64), 0)
	send := func(seq uint64) (bytes int) {
		t.Helper()
		f := &pipeline.Frame{Kind: pipeline.KindToken, Seq: seq, Epoch: 5, Attempt: 1, Stage: 2, Count: 1, ID: int32(seq)}
		b, _, err := enc.append(nil, f, false, math.MaxInt)
		if err != nil {
			t.Fatal(err)
		}
		*r = FrameReader{r: bufio.NewReaderSize(strings.NewReader(string(b)), 64), most: 100, ids: r.ids}
		got, err := r.Read()
		if err == nil {
			err = sameFrame(got, f)
		}
		if err != nil {
			t.Fatalf("sequence %d: %v", seq, err)
		}
		return len(b)
	}
	const first, again = bound + 32, 32
	for round := range 3 {
		for seq := range uint64(maxIDs) {
			if n := send(seq); round == 0 && n != first || round > 0 && n != again {
				t.Fatalf("round %d: the frame of sequence %d has %d bytes", round, seq, n)
			}
		}
	}
	for seq := uint64(maxIDs); seq < 4*maxIDs; seq++ { // the oldest make room
		if a, b := send(seq), send(seq); a != first || b != again {
			t.Fatalf("sequence %d: %d and %d bytes", seq, a, b)
		}
	}
	if len(enc.ids) != maxIDs || len(enc.slots) != maxIDs || len(r.ids) != maxIDs {
		t.Errorf("%d ids in %d slots, %d at the receiver", len(enc.ids), len(enc.slots), len(r.ids))
	}
	for i := range enc.slots { // all wait: no slot may change its meaning
		enc.slots[i].waiting = 1
	}
	if _, _, err := enc.append(nil, &pipeline.Frame{Kind: pipeline.KindClose, Seq: 1 << 40}, false, 100); !errors.Is(err, ErrQueueFull) {
		t.Errorf("error %v", err)
	}
}

func TestFrameCutShort(t *testing.T) {
	for name, f := range codecFrames() {
		b := encode(t, f)
		for n := range b {
			want := io.ErrUnexpectedEOF
			if n == 0 || n == bound {
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
			if got, err := decode(append(bad, make([]byte, 64)...)); err == nil && got != nil {
				t.Fatalf("%s, bit %d: read as %+v", name, bit, got)
			} else if !errors.Is(err, ErrProtocol) && err != io.ErrUnexpectedEOF {
				t.Fatalf("%s, bit %d: %v", name, bit, err)
			}
		}
	}
}

// patched returns an encoding with bytes of the frame changed and a checksum that fits: what a hostile node could send.
func patched(b []byte, at int, with ...byte) []byte {
	b = bytes.Clone(b)
	copy(b[bound+at:], with)
	return seal(b, bound)
}

// reseal puts right the checksums of a stream, as far as it can be told apart.
func reseal(b []byte) []byte {
	b = bytes.Clone(b)
	for at := 0; at+headerSize <= len(b); {
		n := recordSize(b[at:])
		if n < headerSize || at+n > len(b) {
			n = len(b) - at
		}
		sum(b[:at+n], at)
		at += n
	}
	return b
}

func TestFrameHostile(t *testing.T) {
	frames := codecFrames()
	activations, scores, token := encode(t, frames["activations"]), encode(t, frames["scores"]), encode(t, frames["token"])
	parts := encodeForm(t, frames["activations"], true)
	bind := func(id uint32, a address) []byte { return appendBind(nil, id, a) }
	part := func(n int) []byte {
		return seal(append(appendHeader(nil, kindPart, typePart, 0), make([]byte, n)...), 0)
	}
	for name, b := range map[string][]byte{
		"unknown kind":       patched(activations, offKind, 9),
		"unknown flag":       patched(activations, offFlags, 0x80),
		"unknown type":       patched(activations, offType, 7),
		"unknown form":       patched(activations, offForm, 2),
		"type of another":    patched(activations, offType, typeMap),
		"no rows":            patched(activations, offCount, 0, 0, 0, 0),
		"part of a row":      patched(activations, offCount, 4),
		"huge count":         patched(activations, offCount, 0, 0, 0, 0x80),
		"huge position":      patched(activations, offPos, 1, 0, 0, 1),
		"half a token":       seal(append(patched(token, offCount, 2), 1, 2), bound),
		"a guess of one row": patched(encode(t, frames["guesses"]), offCount, 1),
		"half a name":        patched(encode(t, frames["names"]), offCount, 3),
		"more alternatives":  patched(scores, headerSize+8, 3),
		"many alternatives":  patched(scores, headerSize+8, 0xff, 0xff, 0xff, 0xff),
		"scores for more":    patched(scores, offCount, 3),
		"empty map":          patched(encode(t, frames["credit"]), offKind, 1, 0, typeMap),
		"no such fail":       patched(encode(t, frames["fail"]), headerSize+6, 99),
		"open of a fail":     patched(encode(t, frames["fail"]), offKind, 1),

		"an id never bound":        patched(token, offID, 1),
		"an id of no slot":         patched(token, offID, 0xff, 0xff),
		"a generation to come":     patched(token, offID, 0, 0, 1, 0),
		"a generation that is out": slices.Concat(token, bind(makeID(0, 1), address{seq: 9}), token[bound:]),
		"without a binding":        token[bound:],
		"bound twice":              slices.Concat(bind(0, address{seq: 1}), bind(0, address{seq: 2})),
		"bound ahead":              bind(makeID(0, 3), address{}),
		"bound beyond the bound":   bind(maxIDs, address{}),
		"a stage of 32 bits":       sum(append(bind(0, address{})[:bound-2], 1, 0), 0),
		"a short binding":          seal(bind(0, address{})[:bound-1], 0),
		"a sign of life with more": sum(patched(token, offKind, kindBeat, 0, 0, 0)[bound:], 0),

		"a part of nothing":       part(8),
		"a part of no bytes":      append(parts[:bound+headerSize:bound+headerSize], part(0)...),
		"a part too many":         append(bytes.Clone(parts), part(4)...),
		"a part too long":         append(parts[:bound+headerSize:bound+headerSize], part(28)...),
		"a part of a value":       append(parts[:bound+headerSize:bound+headerSize], part(6)...),
		"a huge part":             append(parts[:bound+headerSize:bound+headerSize], part(maxPart+4)...),
		"parts of nothing":        patched(encode(t, frames["credit"]), offForm, formParts),
		"parts between the parts": slices.Concat(parts[:bound+headerSize], bind(makeID(1, 0), address{seq: 9}), patched(parts[:bound+headerSize], offID, 1)[bound:]),
		"its own frame between":   slices.Concat(parts[:bound+headerSize], token[bound:]),
	} {
		r := NewFrameReader(bufio.NewReaderSize(bytes.NewReader(b), 64), 0)
		f, err := r.Read()
		for err == nil && f != nil {
			f, err = r.Read()
		}
		if !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %+v, error %v, want ErrProtocol", name, f, err)
		}
		r.Close()
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
		if _, _, err := new(encoder).append(nil, &pipeline.Frame{Kind: pipeline.KindOpen, Open: &o}, false, math.MaxInt); !errors.Is(err, ErrProtocol) {
			t.Errorf("open with a bad %s is sent: %v", name, err)
		}
		b := encode(t, frames["bare open"])[:bound+headerSize]
		b, err := wire.Append(b, openToWire(&o))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(seal(b, bound)); !errors.Is(err, ErrProtocol) {
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
		before, enc := []byte("before"), new(encoder)
		if b, _, err := enc.append(before, f, false, math.MaxInt); err == nil || !bytes.Equal(b, before) || len(enc.slots) > 0 {
			t.Errorf("%s: %q, error %v", name, b, err)
		}
	}
}

// A node that announces much and sends nothing must not cost memory.
func TestFrameAnnouncedOnly(t *testing.T) {
	b := encode(t, codecFrames()["activations"])[:bound+headerSize]
	copy(b[bound+offLength:], []byte{0, 0, 0, 1}) // 16 MiB
	copy(b[bound+offCount:], []byte{1, 0, 0, 0})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := decode(b); err != io.ErrUnexpectedEOF {
		t.Fatalf("error %v", err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 256<<10 {
		t.Errorf("%d bytes were allocated for an announcement", n)
	}
	copy(b[bound+offLength:], []byte{1, 0, 0, 2}) // over the limit
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
	if rows > 1 {
		f.Flags = pipeline.FlagPrompt
	}
	return f
}

// looped is a reader of the same frame for ever, and its bytes without the binding.
func looped(t testing.TB, enc *encoder, f *pipeline.Frame) (*FrameReader, []byte) {
	t.Helper()
	b, _, err := enc.append(nil, f, isLarge(f), math.MaxInt)
	if err != nil {
		t.Fatal(err)
	}
	r := NewFrameReader(bufio.NewReaderSize(io.MultiReader(bytes.NewReader(b[:bound]), &loop{b: bytes.Clone(b[bound:])}), 64<<10), 0)
	return r, b[bound:]
}

func TestFrameNoAllocation(t *testing.T) {
	for name, f := range map[string]*pipeline.Frame{"step": stepFrame(1), "token": codecFrames()["token"], "tokens": codecFrames()["tokens"]} {
		var enc encoder
		r, buf := looped(t, &enc, f)
		if n := testing.AllocsPerRun(100, func() {
			var err error
			if buf, _, err = enc.append(buf[:0], f, isLarge(f), math.MaxInt); err != nil {
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
		for _, parts := range []bool{false, true} {
			var enc encoder
			b, _, err := enc.append(nil, fr, parts, math.MaxInt)
			if err != nil {
				continue // nothing to cut
			}
			f.Add(b, true)
			f.Add(append(b, appendBeat(nil)...), false)
			other := &pipeline.Frame{Kind: pipeline.KindToken, Seq: 3, Count: 1}
			between, _, err := enc.append(nil, other, false, math.MaxInt)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(slices.Concat(b[:bound+recordSize(b[bound:])], between, b[bound+recordSize(b[bound:]):]), true)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix { // get past the checksums
			b = reseal(b)
		}
		r := NewFrameReader(bufio.NewReaderSize(bytes.NewReader(b), 64), 1<<20)
		defer r.Close()
		for {
			got, err := r.Read()
			if len(r.ids) > maxIDs {
				t.Fatalf("%d ids", len(r.ids))
			}
			if err != nil {
				return
			}
			if got == nil {
				continue
			}
			out, _, err := new(encoder).append(nil, got, isLarge(got), math.MaxInt)
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
		var enc encoder
		r, buf := looped(b, &enc, c.f)
		b.Run(c.name+"/append", func(b *testing.B) {
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for range b.N {
				buf, _, _ = enc.append(buf[:0], c.f, isLarge(c.f), math.MaxInt)
			}
		})
		b.Run(c.name+"/read", func(b *testing.B) {
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
