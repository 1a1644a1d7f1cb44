package gguf

import "encoding/binary"

// KV holds the key-value pairs of a file in file order. Its getters never fail loudly: ok is false when
// the key is absent or its value is of another kind. Returned strings and slices are copies and outlive
// the File.
type KV struct {
	pairs []Pair
	index map[string]int
}

// NewKV makes a KV of pairs; of a repeated key the last wins.
func NewKV(pairs []Pair) KV {
	kv := KV{pairs: pairs, index: make(map[string]int, len(pairs))}
	for i, p := range pairs {
		kv.index[p.Key] = i
	}
	return kv
}

// Pairs returns all pairs in file order. The slice must not be changed.
func (kv KV) Pairs() []Pair { return kv.pairs }

// Get returns the value of a key.
func (kv KV) Get(key string) (Value, bool) {
	i, ok := kv.index[key]
	if !ok {
		return Value{}, false
	}
	return kv.pairs[i].Value, true
}

// String returns a string.
func (kv KV) String(key string) (string, bool) {
	v, ok := kv.Get(key)
	if !ok || v.Type != TypeString {
		return "", false
	}
	return string(v.raw), true
}

// Bool returns a boolean.
func (kv KV) Bool(key string) (value, ok bool) {
	v, ok := kv.Get(key)
	if !ok || v.Type != TypeBool {
		return false, false
	}
	return v.raw[0] != 0, true
}

// Uint returns an integer of any width that is not negative.
func (kv KV) Uint(key string) (uint64, bool) {
	v, ok := kv.Get(key)
	if !ok {
		return 0, false
	}
	i, u, ok := integer(v.Type, v.raw)
	if !ok || v.Type.signed() && i < 0 {
		return 0, false
	}
	return u, true
}

// Int returns an integer of any width that fits int64.
func (kv KV) Int(key string) (int64, bool) {
	v, ok := kv.Get(key)
	if !ok {
		return 0, false
	}
	i, _, ok := integer(v.Type, v.raw)
	if !ok || !v.Type.signed() && i < 0 {
		return 0, false
	}
	return i, true
}

// Float returns a floating-point number of either width. It may be NaN or infinite: the file says so.
func (kv KV) Float(key string) (float64, bool) {
	v, ok := kv.Get(key)
	if !ok {
		return 0, false
	}
	return real(v.Type, v.raw)
}

// Len returns the number of elements of an array without decoding it.
func (kv KV) Len(key string) (int, bool) {
	v, ok := kv.Get(key)
	if !ok || v.Type != TypeArray {
		return 0, false
	}
	return v.n, true
}

func (kv KV) array(key string) (Value, bool) {
	v, ok := kv.Get(key)
	return v, ok && v.Type == TypeArray
}

// Strings returns an array of strings. The strings share one copy of the bytes.
func (kv KV) Strings(key string) ([]string, bool) {
	v, ok := kv.array(key)
	if !ok || v.elem != TypeString {
		return nil, false
	}
	all, out, at := string(v.raw), make([]string, v.n), 0
	for i := range out {
		n := int(binary.LittleEndian.Uint64(v.raw[at:]))
		at += 8
		out[i] = all[at : at+n]
		at += n
	}
	return out, true
}

// Ints returns an array of integers of any one width; ok is false if one does not fit int64.
func (kv KV) Ints(key string) ([]int64, bool) {
	v, ok := kv.array(key)
	if !ok {
		return nil, false
	}
	size := v.elem.size()
	if _, _, ok := integer(v.elem, make([]byte, 8)); !ok {
		return nil, false
	}
	out := make([]int64, v.n)
	for i := range out {
		x, _, _ := integer(v.elem, v.raw[i*size:])
		if x < 0 && !v.elem.signed() {
			return nil, false
		}
		out[i] = x
	}
	return out, true
}

// Floats returns an array of floating-point numbers, float64 rounded to float32.
func (kv KV) Floats(key string) ([]float32, bool) {
	v, ok := kv.array(key)
	if !ok || v.elem != TypeFloat32 && v.elem != TypeFloat64 {
		return nil, false
	}
	out, size := make([]float32, v.n), v.elem.size()
	for i := range out {
		x, _ := real(v.elem, v.raw[i*size:])
		out[i] = float32(x)
	}
	return out, true
}

// Bools returns an array of booleans.
func (kv KV) Bools(key string) ([]bool, bool) {
	v, ok := kv.array(key)
	if !ok || v.elem != TypeBool {
		return nil, false
	}
	out := make([]bool, v.n)
	for i := range out {
		out[i] = v.raw[i] != 0
	}
	return out, true
}
