package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Bounds of one answer, whatever the server sends.
const (
	maxEvent  = 1 << 20
	maxAnswer = 64 << 20
)

// errTooLong: the server sends more than an answer can have.
var errTooLong = errors.New("too long")

// events reads server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html
type events struct {
	r    *bufio.Reader
	left int64 // bytes that may still come
	buf  []byte
}

func newEvents(r io.Reader) *events {
	return &events{r: bufio.NewReaderSize(r, 16<<10), left: maxAnswer}
}

// next returns the data of the next event, good until the next call; io.EOF at the end of the stream between two events,
// io.ErrUnexpectedEOF inside of one. Comments and other fields are skipped: the data says itself what it is.
func (e *events) next() ([]byte, error) {
	e.buf = e.buf[:0]
	data := false
	for {
		begin := len(e.buf)
		if data {
			e.buf = append(e.buf, '\n')
		}
		at := len(e.buf)
		if err := e.line(); err != nil {
			if errors.Is(err, io.EOF) && (data || len(e.buf) > at) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		line := e.buf[at:]
		if len(line) == 0 && data {
			return e.buf[:begin], nil
		}
		rest, ok := bytes.CutPrefix(line, []byte("data:"))
		if !ok {
			e.buf = e.buf[:begin]
			continue
		}
		data = true
		e.buf = append(e.buf[:at], bytes.TrimPrefix(rest, []byte(" "))...)
	}
}

// line appends the next line to buf, without its end.
func (e *events) line() error {
	for {
		part, err := e.r.ReadSlice('\n')
		e.left -= int64(len(part))
		if e.left < 0 {
			return fmt.Errorf("%w: the answer is larger than %d MiB", errTooLong, maxAnswer>>20)
		}
		e.buf = append(e.buf, part...)
		if len(e.buf) > maxEvent {
			return fmt.Errorf("%w: an event is larger than %d MiB", errTooLong, maxEvent>>20)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return err
		}
		e.buf = bytes.TrimSuffix(e.buf, []byte("\n"))
		e.buf = bytes.TrimSuffix(e.buf, []byte("\r"))
		return nil
	}
}
