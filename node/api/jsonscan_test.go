package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestScanJSON(t *testing.T) {
	many := make([]string, 40)
	for i := range many {
		many[i] = fmt.Sprintf(`"k%d":%d`, i, i)
	}
	for _, c := range []struct {
		text string
		want error
	}{
		{`{"a":1,"b":{"a":2},"c":[{"a":1},{"a":2}]}`, nil},
		{`{"a":"a","b":"\"a\":","c":["a","a"]}`, nil},
		{`{"a":1,"b":{},"a":2}`, ErrDuplicate},
		{`[{"x":{"a":[],"a":1}}]`, ErrDuplicate},
		{`{"model":1,"MODEL":2}`, ErrDuplicate}, // one field to encoding/json
		{`{"stop":1,"\u017ftop":2}`, ErrDuplicate},
		{`{"x":{"a":1,"A":2}}`, nil}, // may be a table of the client's
		{`{"a\\":1,"a\\\\":2}`, nil},
		{`{"":1,"":2}`, ErrDuplicate},
		{"{" + strings.Join(many, ",") + "}", nil},
		{"{" + strings.Join(append(many, `"k7":0`), ",") + "}", ErrDuplicate},
		{"{" + strings.Join(append(many, `"x":0,"x":0`), ",") + "}", ErrDuplicate},
		{strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth), nil},
		{strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1), ErrDepth},
		{strings.Repeat(`{"a":`, MaxDepth+1), ErrDepth},
		{strings.Repeat(`[],`, 1000), nil},
		{`"` + strings.Repeat("[", 1000) + `"`, nil},
		{"\"\xc3\x28\"", ErrEncoding},
		{`"unterminated \`, nil},
		{`]]}}`, nil},
	} {
		if err := ScanJSON([]byte(c.text)); !errors.Is(err, c.want) {
			t.Errorf("%.80s: %v, want %v", c.text, err, c.want)
		}
	}
}

// reference finds depth and duplicate keys by encoding/json's own tokens; ok is false for a text that is not valid.
func reference(data []byte) (depth int, duplicate, ok bool) {
	if !json.Valid(data) {
		return 0, false, false
	}
	d := json.NewDecoder(bytes.NewReader(data))
	type level struct {
		keys  map[string]bool
		isKey bool
	}
	var open []level
	for {
		tok, err := d.Token()
		if err != nil {
			return depth, duplicate, true
		}
		n := len(open)
		if n > 0 && open[n-1].keys != nil && open[n-1].isKey {
			if key, is := tok.(string); is {
				if n == 1 {
					key = string(fold([]byte(key)))
				}
				duplicate = duplicate || open[n-1].keys[key]
				open[n-1].keys[key], open[n-1].isKey = true, false
				continue
			}
		}
		switch tok {
		case json.Delim('{'):
			open = append(open, level{keys: map[string]bool{}, isKey: true})
			depth = max(depth, len(open))
			continue
		case json.Delim('['):
			open = append(open, level{})
			depth = max(depth, len(open))
			continue
		case json.Delim('}'), json.Delim(']'):
			open = open[:n-1]
		}
		if n = len(open); n > 0 {
			open[n-1].isKey = open[n-1].keys != nil
		}
	}
}

func FuzzScanJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,{"b":2,"b":3}]}`, `{"a":"\u0061","\u0061":1}`, `[[[[]]]]`, `{"x":{"x":1},"y":"x"}`, `"\\"`, `{`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := ScanJSON(data)
		depth, duplicate, ok := reference(data)
		if !ok || !utf8.Valid(data) {
			return // only no panic and no endless loop are promised
		}
		if want := depth > MaxDepth; want != errors.Is(err, ErrDepth) && !errors.Is(err, ErrDuplicate) {
			t.Fatalf("depth %d: %v", depth, err)
		}
		if duplicate && err == nil || !duplicate && errors.Is(err, ErrDuplicate) {
			t.Fatalf("duplicate %v: %v in %q", duplicate, err, data)
		}
	})
}
