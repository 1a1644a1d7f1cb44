package jinja

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// maxValueDepth bounds the nesting of values wherever they are walked.
const maxValueDepth = 100

// fromHost turns a Go value into a value of the engine; the template cannot reach the original.
func fromHost(v any, depth int) (any, error) {
	if depth > maxValueDepth {
		return nil, fmt.Errorf("%w: a value is nested deeper than %d", ErrLimit, maxValueDepth)
	}
	switch v := v.(type) {
	case nil, bool, int64, float64, bigInt:
		return v, nil
	case int:
		return int64(v), nil
	case string:
		return strings.ToValidUTF8(v, "\uFFFD"), nil
	case []string:
		items := make([]any, len(v))
		for i, s := range v {
			items[i] = strings.ToValidUTF8(s, "\uFFFD")
		}
		return items, nil
	case []any:
		items := make([]any, len(v))
		for i, x := range v {
			item, err := fromHost(x, depth+1)
			if err != nil {
				return nil, err
			}
			items[i] = item
		}
		return items, nil
	case *Dict:
		return dictFromHost(v, depth)
	case map[string]any:
		d := NewDict()
		for _, k := range sortedKeys(v) {
			d.Set(k, v[k])
		}
		return dictFromHost(d, depth)
	case json.RawMessage:
		return DecodeJSON(v)
	}
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("a %T cannot be given to a template: %w", v, err)
	}
	return DecodeJSON(data)
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func dictFromHost(src *Dict, depth int) (any, error) {
	d := NewDict()
	for i, k := range src.keys {
		value, err := fromHost(src.values[i], depth+1)
		if err != nil {
			return nil, err
		}
		if s, ok := k.(string); ok {
			k = strings.ToValidUTF8(s, "\uFFFD")
		}
		hash, err := hashKey(k)
		if err != nil {
			return nil, err
		}
		d.set(hash, k, value)
	}
	return d, nil
}

// DecodeJSON reads one JSON value: objects become *Dict and keep the order of their keys, which Go's
// maps would lose and tojson shows. Nesting is bounded; of equal keys the last value counts.
func DecodeJSON(data []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	v, err := decodeValue(dec, 0)
	if err != nil {
		return nil, fmt.Errorf("json: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("json: more than one value")
	}
	return v, nil
}

func decodeValue(dec *json.Decoder, depth int) (any, error) {
	if depth > maxValueDepth {
		return nil, fmt.Errorf("%w: nested deeper than %d", ErrLimit, maxValueDepth)
	}
	t, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Number:
		return decodeNumber(t.String())
	case json.Delim:
		if t == '[' {
			return decodeList(dec, depth)
		}
		return decodeDict(dec, depth)
	}
	return t, nil // nil, bool, string
}

func decodeList(dec *json.Decoder, depth int) (any, error) {
	items := []any{}
	for dec.More() {
		v, err := decodeValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		items = append(items, v)
	}
	_, err := dec.Token()
	return items, err
}

func decodeDict(dec *json.Decoder, depth int) (any, error) {
	d := NewDict()
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		v, err := decodeValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		d.set(key, key, v)
	}
	_, err := dec.Token()
	return d, err
}

// decodeNumber follows Python: digits alone are an integer of any size, anything else a float.
func decodeNumber(s string) (any, error) {
	if !strings.ContainsAny(s, ".eE") {
		if i, err := strconv.ParseInt(s, 10, 64); err == nil {
			return i, nil
		}
		return bigInt(s), nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && !math.IsInf(f, 0) {
		return nil, err
	}
	return f, nil
}
