package auth

import (
	"encoding/hex"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// JoinString is what `lamina join` takes: HOST:PORT/TOKEN@sha256:PIN.
type JoinString struct {
	Addr  string // HOST:PORT of a node of the cluster
	Token string
	Pin   string // sha256:hex of the CA's public key
}

// String returns the text form. It holds the token: never log it.
func (j JoinString) String() string { return j.Addr + "/" + j.Token + "@" + j.Pin }

// ParseJoinString reads the text form. Errors wrap ErrJoinString, name the part at fault and never show the token.
func ParseJoinString(s string) (JoinString, error) {
	bad := func(why string) (JoinString, error) {
		return JoinString{}, fmt.Errorf("%w: %s; it must read HOST:PORT/TOKEN@sha256:PIN as `lamina token create` prints it", ErrJoinString, why)
	}
	if len(s) > 512 {
		return bad("it is too long")
	}
	addr, rest, ok := strings.Cut(strings.TrimSpace(s), "/")
	if !ok {
		return bad("there is no / behind the address")
	}
	token, pin, ok := strings.Cut(rest, "@")
	if !ok {
		return bad("there is no @ behind the token")
	}
	host, port, err := net.SplitHostPort(addr)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil || host == "" || n == 0 {
		return bad(fmt.Sprintf("%.80q is not HOST:PORT", addr))
	}
	if !isBase32(token, tokenLen) {
		return bad(fmt.Sprintf("the token must have %d lower-case letters and digits", tokenLen))
	}
	if !isHash(pin) {
		return bad("the pin must be sha256: and 64 lower-case hex digits")
	}
	return JoinString{Addr: addr, Token: token, Pin: pin}, nil
}

// isHash says whether s is sha256: and 64 lower-case hex digits.
func isHash(s string) bool {
	h, ok := strings.CutPrefix(s, hashPrefix)
	if !ok || len(h) != 64 || strings.ToLower(h) != h {
		return false
	}
	_, err := hex.DecodeString(h)
	return err == nil
}
