package server

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"lamina/node/api"
	"lamina/node/auth"
	"lamina/node/records"
)

// exchange is one request and the answer to it, as handlers see them. It belongs to the request's goroutine.
type exchange struct {
	s     *Server
	route *route
	w     http.ResponseWriter
	r     *http.Request
	rc    *http.ResponseController
	id    string         // X-Request-Id
	who   auth.Principal // zero: anonymous
	begun time.Time

	record *records.Record // of this request, once it is known what is to be kept; nil: it cannot be resumed
	replay *records.Record // of the request that this one resumes; nil: it is a new one
	after  int             // events of it that the client has

	status  int // 0: nothing is written yet
	emitted int // tokens of the answer so far
	codec   api.Codec

	data     []byte // of the body
	dataType string
}

func (s *Server) newExchange(rt *route, w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{s: s, route: rt, w: w, r: r, rc: http.NewResponseController(w), begun: s.now()}
	x.id = requestID(r.Header.Get("X-Request-Id"), s.newID)
	if rt.dialect == native {
		x.codec = replyCodec(r)
	}
	x.w.Header().Set("X-Request-Id", x.id)
	x.w.Header().Set("X-Content-Type-Options", "nosniff")
	x.w.Header().Set("Cache-Control", "no-store")
	x.extendWrite()
	if r.Body != nil && r.Body != http.NoBody {
		x.extendRead()
	}
	return x
}

// requestID takes the client's id if it is one that may stand in headers and logs, else makes one.
func requestID(given string, makeID func() string) string {
	ok := given != "" && len(given) <= 128
	for i := 0; i < len(given) && ok; i++ {
		c := given[i]
		ok = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.:", c) >= 0
	}
	if ok {
		return given
	}
	return "req_" + makeID()
}

// replyCodec is the codec the client would like: the better liked of the two in Accept, else the one it writes itself.
func replyCodec(r *http.Request) api.Codec {
	best, found := api.JSON, 0.0
	for _, part := range strings.Split(strings.Join(r.Header.Values("Accept"), ","), ",") {
		t, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		q := 1.0
		if v, err := strconv.ParseFloat(params["q"], 64); err == nil {
			q = v
		}
		c, ok := api.CodecOf(t)
		if ok = ok || t == api.TypeSSE || t == "text/*"; ok && q > found {
			best, found = c, q
		}
	}
	if found > 0 {
		return best
	}
	c, _ := api.CodecOf(r.Header.Get("Content-Type"))
	return c
}

// extendRead and extendWrite give the client another stretch of time. A connection without deadlines, as a test's may
// be, serves just as well.
func (x *exchange) extendRead() {
	_ = x.rc.SetReadDeadline(time.Now().Add(x.s.cfg.Limits.BodyTime))
}

func (x *exchange) extendWrite() {
	_ = x.rc.SetWriteDeadline(time.Now().Add(x.s.cfg.Limits.WriteTime))
}

// readBody takes the whole body, bounded in size and time. At its end the read deadline is lifted: from then on the
// server reads only to learn that the client has gone, and a deadline there would look like that.
func (x *exchange) readBody(limit int64) ([]byte, error) {
	if x.r.ContentLength > limit {
		return nil, &http.MaxBytesError{Limit: limit}
	}
	data, err := io.ReadAll(http.MaxBytesReader(x.w, x.r.Body, limit))
	if err != nil {
		x.w.Header().Set("Connection", "close") // the rest of the body would be taken for the next request
		if f, known := faultOf(err); known {
			return nil, f
		}
		return nil, invalid("", "the body ended early or could not be read")
	}
	_ = x.rc.SetReadDeadline(time.Time{})
	return data, nil
}

// bodyCodec tells how the body is written. curl's default for -d counts as JSON: a page in a browser could send it across
// origins too, but that is refused by other means (guard). So does no type at all.
func (x *exchange) bodyCodec() (api.Codec, error) {
	if e := x.r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return 0, newFault(http.StatusUnsupportedMediaType, kindInvalid, "unsupported_encoding", "compressed bodies are not taken; send it without Content-Encoding")
	}
	t := x.r.Header.Get("Content-Type")
	if t == "" {
		return api.JSON, nil
	}
	if c, ok := api.CodecOf(t); ok && (c == api.JSON || x.route.dialect == native) {
		return c, nil
	}
	if m, _, err := mime.ParseMediaType(t); err == nil && m == "application/x-www-form-urlencoded" {
		return api.JSON, nil
	}
	wanted := api.TypeJSON
	if x.route.dialect == native {
		wanted += " or " + api.TypeMsgpack
	}
	return 0, newFault(http.StatusUnsupportedMediaType, kindInvalid, "unsupported_media_type", "Content-Type must be %s", wanted)
}

// decode reads a native message into v: unknown fields are refused.
func (x *exchange) decode(v any) error {
	c, data, err := x.body()
	if err != nil {
		return err
	}
	return c.Unmarshal(data, v)
}

// body reads the message and says how it is written: the request's own, or that of the one it resumes.
func (x *exchange) body() (api.Codec, []byte, error) {
	if x.replay != nil {
		c, _ := api.CodecOf(x.replay.Type)
		return c, x.replay.Body, nil
	}
	c, err := x.bodyCodec()
	if err != nil {
		return c, nil, err
	}
	data, err := x.readBody(x.s.cfg.Limits.BodyBytes)
	x.data = data
	x.dataType = c.Type()
	return c, data, err
}

// decodeOpenAI reads a message of the OpenAI dialect into v: unknown fields are ignored, since its clients send many.
func (x *exchange) decodeOpenAI(v any) error {
	_, data, err := x.body()
	if err != nil {
		return err
	}
	err = api.DecodeJSON(data, v, false)
	var d *api.DecodeError
	if errors.As(err, &d) { // encoding/json names the embedded struct on the way to a field; clients do not know it
		d.Field = strings.TrimPrefix(d.Field, reflect.TypeFor[openAIParams]().Name()+".")
	}
	return err
}

// reply writes one whole message.
func (x *exchange) reply(status int, v any) error {
	data, err := x.codec.Marshal(v)
	if err != nil {
		return err
	}
	if x.codec == api.JSON {
		data = append(data, '\n')
	}
	x.w.Header().Set("Content-Type", x.codec.Type())
	return x.write(status, data)
}

// write writes the status and a whole body.
func (x *exchange) write(status int, data []byte) error {
	x.status = status
	x.extendWrite()
	x.w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	x.w.WriteHeader(status)
	if x.r.Method == http.MethodHead {
		return nil
	}
	_, err := x.w.Write(data)
	return gone(err)
}

// errGone: the client went away, or took nothing for too long. It is no failure of the server, and nobody is there to be told.
var errGone = errors.New("the client has gone")

// gone marks an error of the client's connection.
func gone(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errGone, err)
}

// fail writes an error in the shape of the dialect; the answer must not have begun.
func (x *exchange) fail(f *fault) {
	if f.retry > 0 {
		x.w.Header().Set("Retry-After", f.retryAfter())
	}
	if f.status == http.StatusUnauthorized {
		x.w.Header().Set("WWW-Authenticate", "Bearer")
	}
	_ = x.reply(f.status, x.errorBody(f)) // the client has gone; nobody to tell
}

// errorBody is a fault in the shape of the dialect.
func (x *exchange) errorBody(f *fault) any {
	e := f.body(x.id, x.sent())
	if x.route.dialect == openAI {
		return openAIError(e)
	}
	return api.ErrorReply{Error: e}
}

// sent is how many tokens the client has got so far: none, unless the answer is a stream.
func (x *exchange) sent() int {
	if x.status == 0 {
		return 0
	}
	return x.emitted
}
