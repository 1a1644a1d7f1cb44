package api

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"lamina/node/wire"
)

// maxEvent bounds one event of a stream.
const maxEvent = 4 << 20

// AppendEvent appends one event of a stream to dst: in JSON as a server-sent event (an error under the name "error"), in
// msgpack as a map.
func (c Codec) AppendEvent(dst []byte, v any, isError bool) ([]byte, error) {
	if c == Msgpack {
		return wire.Append(dst, v)
	}
	data, err := c.Marshal(v)
	if err != nil {
		return dst, err
	}
	if isError {
		dst = append(dst, "event: error\n"...)
	}
	dst = append(dst, "data: "...)
	dst = append(dst, data...)
	return append(dst, "\n\n"...), nil
}

// readStream hands every event of a stream to emit, whose error ends it. It returns nil at the end of the stream.
func readStream(r io.Reader, c Codec, emit func(GenerateEvent) error) error {
	br := bufio.NewReaderSize(r, 16<<10)
	var buf []byte
	for {
		var e GenerateEvent
		var err error
		if c == Msgpack {
			buf, err = wire.Read(br, buf, wire.Limits{Bytes: maxEvent, Depth: MaxDepth, Elements: maxElements})
		} else {
			buf, err = readSSE(br, buf)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.decodeReply(buf, &e); err != nil {
			return err
		}
		if err := emit(e); err != nil {
			return err
		}
	}
}

// readSSE reads the data of the next server-sent event into buf[:0]; comments and names are skipped, since events say
// themselves what they are. io.EOF is the end of the stream between two events.
// Format: https://html.spec.whatwg.org/multipage/server-sent-events.html
func readSSE(r *bufio.Reader, buf []byte) ([]byte, error) {
	buf = buf[:0]
	data := false
	for {
		line, err := readLine(r, maxEvent)
		if err != nil {
			if data && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return buf, err
		}
		if len(line) == 0 && data {
			return buf, nil
		}
		rest, ok := bytes.CutPrefix(line, []byte("data:"))
		if !ok {
			continue
		}
		if data {
			buf = append(buf, '\n')
		}
		data = true
		buf = append(buf, bytes.TrimPrefix(rest, []byte(" "))...)
		if len(buf) > maxEvent {
			return buf, fmt.Errorf("%w: an event is larger than %d bytes", ErrMessage, maxEvent)
		}
	}
}

// readLine reads a line of at most limit bytes, without its end.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > limit {
			return nil, fmt.Errorf("%w: a line is longer than %d bytes", ErrMessage, limit)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return bytes.TrimRight(line, "\r\n"), nil
	}
}
