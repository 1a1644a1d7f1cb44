package server

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"

	"lamina/node/wire"
)

// splitMsgpack cuts a sequence of msgpack values into the values.
func splitMsgpack(t *testing.T, data []byte) [][]byte {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(data))
	var out [][]byte
	for {
		one, err := wire.Read(r, nil, wire.Limits{Bytes: 1 << 20, Depth: 64, Elements: 1 << 20})
		if errors.Is(err, io.EOF) && len(one) == 0 {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, one)
	}
}
