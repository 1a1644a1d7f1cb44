package jinja

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// spec is one formatting directive, of "%" or of str.format.
type spec struct {
	fill      string
	align     byte // '<' '>' '^' or 0
	sign      byte // '+' or ' ' or 0
	zero      bool
	comma     bool
	width     int
	precision int // -1: not given
	verb      byte
}

const maxFieldWidth = 1 << 16

func filterFormat(in *interp, v any, a callArgs) (any, error) {
	s, err := in.str(v)
	if err != nil {
		return nil, err
	}
	if len(a.names) > 0 {
		d := NewDict()
		return nil2(in.percent(s, d), in.dictFrom(d, callArgs{names: a.names, named: a.named}))
	}
	return in.percent(s, tuple(a.pos))
}
