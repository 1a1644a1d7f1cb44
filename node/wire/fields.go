package wire

import (
	"reflect"
	"strings"
	"time"
)

// field is one field of a struct as it stands on the wire.
type field struct {
	name      string
	index     []int
	omitEmpty bool
}

// fields lists what a struct has on the wire, embedded structs flattened. Outer names win over embedded ones.
func fields(t reflect.Type) []field {
	var out []field
	for f := range t.Fields() {
		name, opts, tagged := fieldTag(f)
		if name == "-" {
			continue
		}
		if f.Anonymous && !tagged && f.Type.Kind() == reflect.Struct && f.Type != timeType {
			for _, in := range fields(f.Type) {
				in.index = append([]int{f.Index[0]}, in.index...)
				out = append(out, in)
			}
			continue
		}
		if !f.IsExported() {
			continue
		}
		if name == "" {
			name = f.Name
		}
		out = append(out, field{name: name, index: f.Index, omitEmpty: strings.Contains(opts, "omitempty")})
	}
	return shallowest(out)
}

// shallowest drops fields that a field of the same name nearer to the outside hides.
func shallowest(all []field) []field {
	kept := all[:0:0]
	for i, f := range all {
		hidden := false
		for j, g := range all {
			if i != j && g.name == f.name && (len(g.index) < len(f.index) || len(g.index) == len(f.index) && j < i) {
				hidden = true
			}
		}
		if !hidden {
			kept = append(kept, f)
		}
	}
	return kept
}

func fieldTag(f reflect.StructField) (name, opts string, tagged bool) {
	tag, ok := f.Tag.Lookup("msgpack")
	if !ok {
		tag, ok = f.Tag.Lookup("json")
	}
	name, opts, _ = strings.Cut(tag, ",")
	return name, opts, ok && name != ""
}

// fieldCache keeps the lists of one call, so that an array of structs does not parse its tags for each element.
type fieldCache map[reflect.Type][]field

func (c *fieldCache) of(t reflect.Type) []field {
	if fs, ok := (*c)[t]; ok {
		return fs
	}
	if *c == nil {
		*c = fieldCache{}
	}
	fs := fields(t)
	(*c)[t] = fs
	return fs
}

var (
	timeType        = reflect.TypeFor[time.Time]()
	marshalerType   = reflect.TypeFor[Marshaler]()
	unmarshalerType = reflect.TypeFor[Unmarshaler]()
)
