package bench

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func drain(r io.Reader) (out []string, err error) {
	e := newEvents(r)
	for {
		data, err := e.next()
		if err != nil {
			return out, err
		}
		out = append(out, string(data))
	}
}

func TestEvents(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	for _, c := range []struct {
		name, in string
		want     []string
		err      error
	}{
		{"two", "data: a\n\ndata:b\n\n", []string{"a", "b"}, io.EOF},
		{"returns", "data: a\r\n\r\ndata: b\r\n\r\n", []string{"a", "b"}, io.EOF},
		{"several lines", "data: a\ndata: b\ndata:\n\n", []string{"a\nb\n"}, io.EOF},
		{"comments and names", ": hello\n\n: x\nevent: error\nid: 3\ndata: a\nretry: 1\n\n", []string{"a"}, io.EOF},
		{"two spaces", "data:  a\n\n", []string{" a"}, io.EOF},
		{"empty lines", "\n\n\ndata: a\n\n\n\n", []string{"a"}, io.EOF},
		{"long", "data: " + long + "\n\n", []string{long}, io.EOF},
		{"cut after the data", "data: a\n\ndata: b\n", []string{"a"}, io.ErrUnexpectedEOF},
		{"cut in the data", "data: a\n\ndata: b", []string{"a"}, io.ErrUnexpectedEOF},
		{"nothing", "", nil, io.EOF},
		{"no end of line", strings.Repeat("y", maxEvent+1), nil, errTooLong},
		{"many lines of data", strings.Repeat("data: "+long+"\n", 20), nil, errTooLong},
		{"comments for ever", strings.Repeat(":"+strings.Repeat("z", 1<<16)+"\n", maxAnswer>>16+1), nil, errTooLong},
	} {
		for _, in := range []io.Reader{strings.NewReader(c.in), iotest.HalfReader(strings.NewReader(c.in))} {
			got, err := drain(in)
			if !errors.Is(err, c.err) || strings.Join(got, "|") != strings.Join(c.want, "|") || len(got) != len(c.want) {
				t.Errorf("%s: %d events %.80q, %v; want %.80q, %v", c.name, len(got), got, err, c.want, c.err)
			}
		}
	}
}

// Whatever comes, the reader ends within its bounds and never panics.
func FuzzEvents(f *testing.F) {
	f.Add([]byte("data: {}\n\ndata: [DONE]\n\n"))
	f.Add([]byte(": c\r\ndata:a\ndata:b\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := drain(strings.NewReader(string(in)))
		if err == nil {
			t.Fatal("no end")
		}
		n := 0
		for _, s := range got {
			n += len(s)
		}
		if n > len(in) {
			t.Fatalf("%d bytes of data from %d", n, len(in))
		}
		var o outcome
		_ = readEvents(strings.NewReader(string(in)), &o)
	})
}
