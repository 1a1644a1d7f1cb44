package arch

import (
	"fmt"
	"reflect"
	"strings"

	"lamina/kernels"
	"lamina/shard/packed"
)

// Head is the way out of the layers: a last norm, and a row for every token; without Output the
// embedding serves as it (Press and Wolf, "Using the Output Embedding to Improve Language Models", 2017).
type Head struct {
	Norm   []float32       `tensor:"output_norm.weight" dims:"hidden"`
	Output *kernels.Matrix `tensor:"output.weight,optional" dims:"vocab,hidden"`
}

// Tensor is what an architecture wants of a file: a matrix, or with Rows == 0 a vector. A stack of matrices is one
// matrix of all their rows, a stack of vectors one vector.
type Tensor struct {
	Name       string // in a part; a file has it with "blk.N." before it, unless Model is set
	Dims       []int  // in the file, innermost first
	Rows, Cols int
	Model      bool // of the whole model, copied into every layer
	Optional   bool
	field      []int // index of the field
}

// Tensors lists what target, a pointer to an Embed, a Head or a Layer, binds, in the order of its
// fields. An error is a mistake in a tag.
func Tensors(target any, p Params) ([]Tensor, error) {
	fields := reflect.VisibleFields(reflect.TypeOf(target).Elem())
	list := make([]Tensor, 0, len(fields))
	for _, f := range fields {
		if f.Anonymous { // its own fields follow
			continue
		}
		t, err := parseTag(f, p)
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	return list, nil
}

func parseTag(f reflect.StructField, p Params) (Tensor, error) {
	name, options, _ := strings.Cut(f.Tag.Get("tensor"), ",")
	t := Tensor{Name: name, field: f.Index}
	for _, o := range strings.Split(options, ",") {
		t.Model = t.Model || o == "model"
		t.Optional = t.Optional || o == "optional"
	}
	known := true
	for _, d := range strings.Split(f.Tag.Get("dims"), ",") {
		n := p.dim(d)
		known = known && n > 0
		t.Dims = append([]int{n}, t.Dims...)
	}
	rest := 1 // of all dims but the innermost
	for _, n := range t.Dims[1:] {
		rest *= n
	}
	matrix := f.Type == reflect.TypeFor[*kernels.Matrix]()
	if name == "" || !known || len(t.Dims) > 3 || matrix && len(t.Dims) < 2 || !matrix && len(t.Dims) > 2 {
		return Tensor{}, fmt.Errorf("arch: field %s has tag %q, which is not understood", f.Name, f.Tag)
	}
	if t.Cols = t.Dims[0] * rest; matrix {
		t.Rows, t.Cols = rest, t.Dims[0]
	}
	return t, nil
}

// dim resolves a name from a dims tag; 0 for an unknown one.
func (p Params) dim(name string) int {
	switch name {
	case "hidden":
		return p.Hidden
	case "ffn":
		return p.FFN
	case "q":
		return p.Heads * p.HeadDim
	case "kv":
		return p.KVHeads * p.HeadDim
	case "vocab":
		return p.Vocab
	case "rope":
		return p.RopeDim / 2
	case "head":
		return p.HeadDim
	case "heads":
		return p.Heads
	case "qkv":
		return (p.Heads + 2*p.KVHeads) * p.HeadDim
	case "gateup":
		return 2 * p.FFN
	case "types":
		return p.Types
	case "context":
		return p.Context
	case "experts":
		return p.Experts
	case "xffn":
		return p.ExpertFFN
	}
	return 0
}

// Bind fills the fields of target from a part. Matrices refer to the part's bytes. Errors name the
// tensor.
func Bind(target any, p Params, part *packed.Part) error {
	list, err := Tensors(target, p)
	if err != nil {
		return err
	}
	v := reflect.ValueOf(target).Elem()
	for _, t := range list {
		_, rows, cols, ok := part.Shape(t.Name)
		if !ok && t.Optional {
			continue
		}
		if !ok || rows != t.Rows || cols != t.Cols {
			return fmt.Errorf("%w: %s is %d x %d, the model wants %d x %d: the part belongs to another model or version; add the model again",
				ErrModel, t.Name, rows, cols, t.Rows, t.Cols)
		}
		if err := set(v.FieldByIndex(t.field), t, part); err != nil {
			return err
		}
	}
	return nil
}

func set(field reflect.Value, t Tensor, part *packed.Part) error {
	if t.Rows == 0 {
		x, err := part.Vector(t.Name)
		field.Set(reflect.ValueOf(x))
		return err
	}
	m, err := part.Matrix(t.Name)
	field.Set(reflect.ValueOf(m))
	return err
}
