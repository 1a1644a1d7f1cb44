package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	"lamina/cluster"
	"lamina/node/api"
	"lamina/node/auth"
	"lamina/node/infer"
)

// fault is an error as a client gets it.
type fault struct {
	status int
	kind   string // OpenAI's type
	code   string
	param  string
	text   string
	retry  time.Duration // Retry-After; 0: the same request will not do better
}

// Error is the text for the client.
func (f *fault) Error() string { return f.text }

// OpenAI's types of error.
const (
	kindInvalid = "invalid_request_error"
	kindAuth    = "authentication_error"
	kindAccess  = "permission_error"
	kindRate    = "rate_limit_error"
	kindServer  = "server_error"
)

// statusGone marks, in metrics, a request whose client went away (nginx's number).
const statusGone = 499

// invalid is a 400 that names the parameter at fault.
func invalid(param, format string, args ...any) *fault {
	text := fmt.Sprintf(format, args...)
	if param != "" {
		text = param + ": " + text
	}
	return &fault{status: http.StatusBadRequest, kind: kindInvalid, code: "invalid_value", param: param, text: text}
}

// unsupported is a 400 for what other servers may do and this one does not.
func unsupported(param, format string, args ...any) *fault {
	f := invalid(param, format, args...)
	f.code = "unsupported_parameter"
	return f
}

func newFault(status int, kind, code, format string, args ...any) *fault {
	return &fault{status: status, kind: kind, code: code, text: fmt.Sprintf(format, args...)}
}

// mapping is a line of the table: an error, and what a client gets for it. text is what the client reads; empty: the
// error's own text, where that is written for users and names nothing of the machine.
type mapping struct {
	is     error
	status int
	kind   string
	code   string
	retry  time.Duration
	text   string
}

// mappings is the only place where errors become statuses. The first line that matches counts.
func mappings() []mapping {
	return []mapping{
		{errGone, statusGone, kindServer, "cancelled", time.Second, "the request was cancelled"},
		{infer.ErrInvalid, 400, kindInvalid, "invalid_value", 0, ""},
		{infer.ErrContextLength, 400, kindInvalid, "context_length_exceeded", 0, ""},
		{infer.ErrNoChatTemplate, 400, kindInvalid, "no_chat_template", 0, ""},
		{infer.ErrModelNotFound, 404, kindInvalid, "model_not_found", 0, ""},
		{infer.ErrModelLoading, 503, kindServer, "model_loading", 2 * time.Second, ""},
		{infer.ErrNoCapacity, 503, kindServer, "no_capacity", 5 * time.Second, ""},
		{infer.ErrOverloaded, 503, kindServer, "overloaded", time.Second, ""},
		{infer.ErrNodeLost, 503, kindServer, "node_lost", time.Second, "a node that held layers of the model was lost and no other could take over in time; try again"},
		{infer.ErrDeadline, 504, kindServer, "deadline_exceeded", time.Second, "the request ran into its deadline; ask for fewer tokens, or stream"},
		{errDraining, 503, kindServer, "draining", time.Second, ""},
		{auth.ErrKey, 401, kindAuth, "invalid_api_key", 0, "the API key is malformed, unknown or revoked; `lamina key create` makes one"},
		{ErrMissingBlob, 409, kindInvalid, "missing_blob", 0, ""},
		{ErrBadBlob, 400, kindInvalid, "bad_blob", 0, ""},
		{ErrBlobInUse, 409, kindInvalid, "blob_in_use", 0, ""},
		{ErrNodeAlive, 409, kindInvalid, "node_alive", 0, ""},
		{ErrNoQuorum, 503, kindServer, "no_quorum", 2 * time.Second, "the cluster cannot agree on a change now: too few of its voters answer; try again when they are back"},
		{ErrNoSpace, 507, kindServer, "no_space", 0, ""},
		{cluster.ErrInvalid, 400, kindInvalid, "invalid_value", 0, ""},
		{cluster.ErrNotFound, 404, kindInvalid, "not_found", 0, ""},
		{cluster.ErrExists, 409, kindInvalid, "exists", 0, ""},
		{cluster.ErrConflict, 409, kindInvalid, "conflict", 0, ""},
		{cluster.ErrStale, 409, kindInvalid, "stale", time.Second, ""},
		{os.ErrDeadlineExceeded, 408, kindInvalid, "request_timeout", time.Second, "the body did not arrive in time"},
		{context.DeadlineExceeded, 504, kindServer, "deadline_exceeded", time.Second, "the request ran into its deadline; ask for fewer tokens, or stream"},
		{context.Canceled, statusGone, kindServer, "cancelled", time.Second, "the request was cancelled"},
	}
}

// faultOf says what a client gets for an error. known is false for one that is not in the table: the client learns
// nothing of it, and it is to be logged.
func faultOf(err error) (f *fault, known bool) {
	if errors.As(err, &f) {
		return f, true
	}
	var d *api.DecodeError
	if errors.As(err, &d) {
		return &fault{status: http.StatusBadRequest, kind: kindInvalid, code: "invalid_value", param: d.Field, text: d.Error()}, true
	}
	var big *http.MaxBytesError
	if errors.As(err, &big) {
		return newFault(http.StatusRequestEntityTooLarge, kindInvalid, "request_too_large", "the body is larger than %d bytes", big.Limit), true
	}
	for _, m := range mappings() {
		if errors.Is(err, m.is) {
			f := &fault{status: m.status, kind: m.kind, code: m.code, text: m.text, retry: m.retry}
			if f.text == "" {
				f.text = err.Error()
			}
			return f, true
		}
	}
	return newFault(http.StatusInternalServerError, kindServer, "internal_error", "internal error; the node's log has it under the request id"), false
}

// body is the fault as a message.
func (f *fault) body(requestID string, emitted int) api.Error {
	return api.Error{Message: f.text, Type: f.kind, Param: f.param, Code: f.code, RequestID: requestID, Retryable: f.retry > 0, EmittedTokens: emitted}
}

// retryAfter is the header's value: whole seconds, rounded up.
func (f *fault) retryAfter() string {
	return strconv.FormatInt(int64((f.retry+time.Second-1)/time.Second), 10)
}
