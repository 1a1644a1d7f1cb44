package jinja

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzTemplate parses and renders anything: no panic, errors of the four kinds with a line, and the
// output within its bound.
func FuzzTemplate(f *testing.F) {
	paths, err := filepath.Glob("testdata/templates/*.jinja")
	if err != nil || len(paths) == 0 {
		f.Fatal("no templates", err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	var g golden
	readJSON(f, "golden.json", &g)
	for _, c := range g.Cases {
		if c.Source != "" {
			f.Add(c.Source)
		}
	}
	user := NewDict()
	user.Set("name", "Ann")
	user.Set("tags", []any{"x", int64(1), nil, 1.5})
	vars := map[string]any{
		"user": user, "nums": []any{1, 2, 3}, "text": "a é 😀\n",
		"messages": []any{map[string]any{"role": "user", "content": "hi"}},
	}
	limits := Limits{Steps: 20_000, Depth: 8, Output: 1 << 14}
	f.Fuzz(func(t *testing.T, source string) {
		tmpl, err := Parse(source)
		if err != nil {
			checkError(t, err, ErrSyntax)
			return
		}
		out, err := tmpl.Render(vars, time.Unix(1, 0).UTC(), limits)
		if err != nil {
			checkError(t, err, ErrLimit, ErrRaised, ErrEval)
			return
		}
		if len(out) > limits.Output {
			t.Errorf("%d bytes of output", len(out))
		}
		if !utf8.ValidString(out) {
			t.Errorf("output is not UTF-8: %q", out)
		}
	})
}

func checkError(t *testing.T, err error, kinds ...error) {
	t.Helper()
	var where *Error
	if !errors.As(err, &where) || where.Line < 1 {
		t.Errorf("error %v names no line", err)
	}
	for _, k := range kinds {
		if errors.Is(err, k) {
			return
		}
	}
	t.Errorf("error %v is of no known kind", err)
}

// FuzzDecodeJSON checks that JSON of any shape is read or refused.
func FuzzDecodeJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5,null,true,"x"],"a":2}`, `[[[[]]]]`, `1e999`, `-0`, `{"a"`, `1 2`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := DecodeJSON(data)
		if err != nil {
			return
		}
		in := &interp{limits: DefaultLimits(), fuel: 100_000}
		if _, err := in.appendJSON(nil, v, &jsonStyle{item: ", ", key: ": "}, 0); err != nil && !errors.Is(err, ErrLimit) {
			t.Error(err)
		}
	})
}
