package gossip

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"

	"lamina/cluster/internal/quiet"
)

func TestMetaRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[ -~]{0,200}`)
		m := Meta{
			HTTP: text.Draw(t, "http"), Version: text.Draw(t, "version"), MemoryTotal: rapid.Int64Min(0).Draw(t, "total"),
			Load: rapid.Float64Range(0, 1e9).Draw(t, "load"), Speed: rapid.Float64Range(0, 1e9).Draw(t, "speed"),
		}
		m.MemoryFree = rapid.Int64Range(0, m.MemoryTotal).Draw(t, "free")
		got, err := decodeMeta(m.encode(MaxMeta))
		if err != nil || got != m {
			t.Fatalf("%+v came back as %+v, %v", m, got, err)
		}
	})
}

func TestMetaTooLong(t *testing.T) {
	m := Meta{HTTP: "h:1", Version: strings.Repeat("v", 600), MemoryTotal: 5, MemoryFree: 5}
	got, err := decodeMeta(m.encode(MaxMeta))
	if err != nil || got.Version != "" || got.HTTP != "h:1" || got.MemoryTotal != 5 {
		t.Errorf("a long version: %+v, %v", got, err)
	}
	m.HTTP = strings.Repeat("h", 600)
	if got, err = decodeMeta(m.encode(MaxMeta)); err != nil || got.HTTP != "" || got.MemoryTotal != 5 {
		t.Errorf("a long address: %+v, %v", got, err)
	}
	if data := m.encode(5); data != nil {
		t.Errorf("no room at all gives %x", data)
	}
}

// TestMetaOfOthers: what a newer version adds is skipped; bombs and nonsense are refused.
func TestMetaOfOthers(t *testing.T) {
	newer, err := msgpack.Marshal(map[string]any{"f": 1, "t": 2, "h": "x:1", "new": []string{"a"}, "z": nil})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := decodeMeta(newer); err != nil || m.MemoryTotal != 2 || m.HTTP != "x:1" {
		t.Errorf("newer metadata: %+v, %v", m, err)
	}
	enc := func(v any) string { b, _ := msgpack.Marshal(v); return string(b) }
	for what, data := range map[string]string{
		"nothing": "", "text": "hello", "not a map": "\x93\x01\x02\x03", "huge map": "\xdf\xff\xff\xff\xff", "huge array": "\x81\xa1h\xdd\x7f\xff\xff\xff",
		"huge string": "\x81\xa1h\xdb\xff\xff\xff\xff", "deep": "\x81\xa1x" + strings.Repeat("\x91", 100) + "\xc0", "cut short": "\x82\xa1f\x01",
		"trailing": enc(map[string]int{"f": 0}) + "\xc0", "extension": "\x81\xa1x\xd4\x01\x01", "reserved": "\x81\xa1x\xc1", "too long": strings.Repeat("\x80", MaxMeta+1),
		"negative": enc(map[string]int{"f": -1, "t": 1}), "more free than there is": enc(map[string]int{"f": 2, "t": 1}),
		"not a number": "\x81\xa1l\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", "control characters": enc(map[string]string{"v": "\x1b[31m"}), "wrong type": enc(map[string]string{"f": "x"}),
	} {
		if m, err := decodeMeta([]byte(data)); !errors.Is(err, errMeta) || m != (Meta{}) {
			t.Errorf("%s: %+v, %v", what, m, err)
		}
	}
}

func FuzzDecodeMeta(f *testing.F) {
	f.Add(Meta{HTTP: "h:1", Version: "v", MemoryTotal: 1 << 40, Load: 1.5}.encode(MaxMeta))
	f.Add([]byte("\xdf\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeMeta(data)
		if err != nil {
			return
		}
		if again, err := decodeMeta(m.encode(MaxMeta)); err != nil || again.MemoryFree != m.MemoryFree {
			t.Fatalf("%+v came back as %+v, %v", m, again, err)
		}
	})
}

func TestLogLines(t *testing.T) {
	var b bytes.Buffer
	drop := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	w := logWriter{slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: drop})), quiet.New()}
	for _, line := range []string{"[DEBUG] memberlist: a\n", "[WARN] memberlist: b\n", "[ERR] memberlist: c\n", "[INFO] d\n", "plain\n"} {
		if n, err := w.Write([]byte(line)); n != len(line) || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
	}
	want := `level=DEBUG msg="gossip: a"
level=WARN msg="gossip: b"
level=ERROR msg="gossip: c"
level=INFO msg="gossip: d"
level=INFO msg="gossip: plain"
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}
