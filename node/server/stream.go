package server

import (
	"net/http"
	"strconv"

	"lamina/node/api"
)

// stream is an answer in pieces: server-sent events, or msgpack maps one after the other. Every piece is sent at once
// and has its own write deadline.
type stream struct {
	x    *exchange
	buf  []byte
	sent int // events so far, those that the client has from an earlier connection included
}

// begun says whether the client has got the status already.
func (st *stream) begun() bool { return st.x.status != 0 }

// begin sends the status and headers.
func (st *stream) begin() error {
	x := st.x
	x.w.Header().Set("Content-Type", x.codec.StreamType())
	x.w.Header().Set("X-Accel-Buffering", "no") // proxies must not gather the pieces
	x.status = http.StatusOK
	x.extendWrite()
	x.w.WriteHeader(http.StatusOK)
	return gone(x.rc.Flush())
}

// event sends one message.
func (st *stream) event(v any) error { return st.send(v, false) }

// fail sends the error that ends the stream.
func (st *stream) fail(v any) error { return st.send(v, true) }

func (st *stream) send(v any, isError bool) error {
	st.buf = st.buf[:0]
	if !isError {
		if st.sent++; st.sent <= st.x.after {
			return nil
		}
		if st.x.codec == api.JSON && st.x.resumable() {
			st.buf = append(strconv.AppendInt(append(st.buf, "id: "...), int64(st.sent), 10), '\n')
		}
	}
	var err error
	if st.buf, err = st.x.codec.AppendEvent(st.buf, v, isError); err != nil {
		return err
	}
	return st.raw(st.buf)
}

// done sends the mark by which OpenAI's clients know the end.
func (st *stream) done() error {
	if st.x.codec != api.JSON {
		return nil
	}
	return st.raw([]byte("data: [DONE]\n\n"))
}

func (st *stream) raw(data []byte) error {
	st.x.extendWrite()
	if _, err := st.x.w.Write(data); err != nil {
		return gone(err)
	}
	return gone(st.x.rc.Flush())
}
