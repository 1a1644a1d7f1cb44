package cluster

import "errors"

// Why a command is refused. Every error of Validate, Apply and DecodeCommand wraps one of these.
var (
	// ErrInvalid: what was asked for contradicts itself or breaks a limit; the text names the field.
	ErrInvalid = errors.New("invalid")
	// ErrUnknownCommand: a kind or version this program does not know; it is older than its peers.
	ErrUnknownCommand = errors.New("unknown command, upgrade this node")
	// ErrNotFound: the thing the command speaks of is not there.
	ErrNotFound = errors.New("not found")
	// ErrExists: the name is taken by something else.
	ErrExists = errors.New("exists already")
	// ErrStale: the command was made from facts that have changed since; look again.
	ErrStale = errors.New("overtaken by events")
	// ErrConflict: the command would change what must never change.
	ErrConflict = errors.New("conflicts with what is agreed")
	// ErrToken: the join token is unknown, used or expired. One text for the three: a caller learns nothing more.
	ErrToken = errors.New("join token is unknown, used or expired; make a new one with `lamina token create`")
	// ErrSnapshot: bytes are no state this program can read.
	ErrSnapshot = errors.New("unreadable cluster state")
)

// codes names the sentinels where errors cross the wire between peers. Append only, never rename.
func codes() []struct {
	Code string
	Err  error
} {
	return []struct {
		Code string
		Err  error
	}{
		{"invalid", ErrInvalid},
		{"unknown_command", ErrUnknownCommand},
		{"not_found", ErrNotFound},
		{"exists", ErrExists},
		{"stale", ErrStale},
		{"conflict", ErrConflict},
		{"token", ErrToken},
		{"snapshot", ErrSnapshot},
	}
}

// ErrorCode returns the short stable name of the sentinel that err wraps, or "" if it wraps none.
func ErrorCode(err error) string {
	for _, c := range codes() {
		if errors.Is(err, c.Err) {
			return c.Code
		}
	}
	return ""
}

// RemoteError rebuilds at the asking peer what ErrorCode and Error said at the answering one: an error
// with that text which wraps the code's sentinel. An unknown code gives an error that wraps none.
func RemoteError(code, text string) error {
	for _, c := range codes() {
		if c.Code == code {
			return &remoteError{text: text, is: c.Err}
		}
	}
	return errors.New(text)
}

type remoteError struct {
	text string
	is   error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.is }
