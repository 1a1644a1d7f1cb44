package api

import (
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

// fill sets every field that v reaches to something that is not its zero value.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("json") != "-" {
				fill(v.Field(i), n)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, val := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, n)
		fill(val, n)
		v.SetMapIndex(key, val)
	case reflect.String:
		v.SetString("text <&> " + strings.Repeat("é", *n%5+1))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(float64(*n) + 0.25)
	case reflect.Uint64:
		v.SetUint(1<<63 + uint64(*n))
	default:
		v.SetInt(int64(*n))
	}
}

func TestRoundTrip(t *testing.T) {
	for _, proto := range []any{
		GenerateRequest{}, GenerateReply{}, GenerateEvent{}, TokenizeRequest{}, TokenizeReply{}, DetokenizeRequest{},
		DetokenizeReply{}, ErrorReply{}, NodesReply{}, ModelsReply{}, TokenRequest{}, TokenReply{}, KeysReply{},
		KeyRequest{}, KeyReply{}, BlobReply{}, DoneReply{},
	} {
		want, n := reflect.New(reflect.TypeOf(proto)), 0
		fill(want.Elem(), &n)
		for _, c := range []Codec{JSON, Msgpack} {
			for _, in := range []reflect.Value{want, reflect.New(reflect.TypeOf(proto))} {
				data, err := c.Marshal(in.Interface())
				if err != nil {
					t.Fatalf("%T %s: %v", proto, c.Type(), err)
				}
				got := reflect.New(reflect.TypeOf(proto))
				if err := c.Unmarshal(data, got.Interface()); err != nil {
					t.Fatalf("%T %s: %v in %q", proto, c.Type(), err, data)
				}
				if !reflect.DeepEqual(got.Interface(), in.Interface()) {
					t.Errorf("%T %s: %q came back as %+v", proto, c.Type(), data, got.Elem())
				}
			}
		}
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	for _, c := range []struct{ name, text, field, want string }{
		{"wrong type", `{"model":"m","options":{"top_p":"high"}}`, "options.top_p", "a number is wanted, not string"},
		{"wrong type in a list", `{"messages":[{"role":7}]}`, "messages.role", "a string is wanted, not number"},
		{"fraction", `{"options":{"max_tokens":1.5}}`, "options.max_tokens", "an integer is wanted, not number 1.5"},
		{"out of range", `{"tokens":[3000000000]}`, "tokens", "a number out of range"},
		{"unknown field", `{"modell":"m"}`, "modell", "unknown field"},
		{"repeated field", `{"model":"m","model":"n"}`, "", `duplicate key: "model"`},
		{"repeated by escape", `{"model":"m","mode\u006c":"n"}`, "", `duplicate key: "model"`},
		{"nested deep", strings.Repeat("[", 65), "", "nested too deeply"},
		{"bad UTF-8", "{\"model\":\"\xff\"}", "", "not valid UTF-8"},
		{"empty", ``, "", "the text is empty"},
		{"cut short", `{"model":`, "", "ends too early"},
		{"syntax", `{"model":}`, "", "not valid JSON: "},
		{"two values", `{} {}`, "", "one value is wanted"},
		{"no object", `[1]`, "", "an object is wanted, not array"},
	} {
		var r GenerateRequest
		err := JSON.Unmarshal([]byte(c.text), &r)
		var d *DecodeError
		if !errors.As(err, &d) || !errors.Is(err, ErrMessage) || d.Field != c.field || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want field %q and %q", c.name, err, c.field, c.want)
		}
	}
}

func TestUnmarshalRefusesMsgpack(t *testing.T) {
	enc := func(v any) []byte {
		b, err := msgpack.Marshal(v) // the codec itself takes no values without a type
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	deep := append([]byte("\x81\xa8messages"), []byte(strings.Repeat("\x91", 200)+"\xc0")...)
	for _, c := range []struct {
		name  string
		data  []byte
		field string
	}{
		{"wrong type", enc(map[string]any{"options": map[string]any{"top_p": "high"}}), "options.top_p"},
		{"wrong type in a list", enc(map[string]any{"messages": []any{map[string]any{"role": 7}}}), "messages.0.role"},
		{"unknown field", enc(map[string]any{"modell": "m"}), ""},
		{"bomb", []byte("\x81\xa6tokens\xdd\xff\xff\xff\xff"), ""},
		{"nested deep", deep, ""},
		{"empty", nil, ""},
		{"two values", []byte("\x80\x80"), ""},
	} {
		var r GenerateRequest
		err := Msgpack.Unmarshal(c.data, &r)
		var d *DecodeError
		if !errors.As(err, &d) || d.Field != c.field {
			t.Errorf("%s: got %v, want field %q", c.name, err, c.field)
		}
	}
}

// TestPythonClient decodes what Python's msgpack 1.2.4 makes of
// {"model": "m", "options": {"temperature": 0.7, "top_p": 1, "max_tokens": 2**20, "seed": 2**64-1, "stop": ["\n", "é"],
// "logit_bias": {50256: -100, "11": 1.5, "7": 2.0}}, "tokens": [0, 127, 128, 65536], "stream": True, "logprobs": None}:
// its floats are doubles, and the keys of logit_bias may be those of the OpenAI dialect.
func TestPythonClient(t *testing.T) {
	data, err := hex.DecodeString("85a56d6f64656ca16da76f7074696f6e7386ab74656d7065726174757265cb3fe6666666666666a5746f705f7001aa6d61785f746f6b656e73ce00100000" +
		"a473656564cfffffffffffffffffa473746f7092a10aa2c3a9aa6c6f6769745f6269617383cdc450d09ca23131cb3ff8000000000000a137cb4000000000000000" +
		"a6746f6b656e7394007fcc80ce00010000a673747265616dc3a86c6f6770726f6273c0")
	if err != nil {
		t.Fatal(err)
	}
	var got GenerateRequest
	if err := Msgpack.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	want := GenerateRequest{Model: "m", Tokens: []int32{0, 127, 128, 65536}, Stream: true, Options: Options{
		Temperature: new(float32(0.7)), TopP: new(float32(1)), MaxTokens: 1 << 20, Seed: new(uint64(math.MaxUint64)),
		Stop: []string{"\n", "é"}, LogitBias: map[int32]float32{50256: -100, 11: 1.5, 7: 2},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestCodecOf(t *testing.T) {
	for in, want := range map[string]struct {
		c  Codec
		ok bool
	}{
		"application/json": {JSON, true}, "application/json; charset=utf-8": {JSON, true}, "application/msgpack": {Msgpack, true},
		"application/x-msgpack": {Msgpack, true}, "application/vnd.msgpack": {Msgpack, true}, "text/plain": {JSON, false}, "": {JSON, false},
	} {
		if c, ok := CodecOf(in); c != want.c || ok != want.ok {
			t.Errorf("%q: %v %v", in, c, ok)
		}
	}
}
