package bench

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Length is a number of tokens, or how to draw one.
type Length struct {
	kind string // "", fixed; "-", uniform; "exp"; "normal"; "/", one of list
	a, b float64
	list []int
	text string
}

// Fixed is always n.
func Fixed(n int) Length { return Length{a: float64(n), text: strconv.Itoa(n)} }

// ParseLength reads a length: 85, or 20-200 (each equally often), 32/512 (one of these), exp:100 (exponential with that
// mean), normal:100:20 (mean and deviation).
func ParseLength(s string) (Length, error) {
	bad := fmt.Errorf("%w: length %q: write 85, 20-200, 32/512, exp:100 or normal:100:20, each from 1 to %d", ErrConfig, s, maxTokens)
	l := Length{text: s}
	var parts []string
	switch {
	case strings.HasPrefix(s, "exp:"):
		l.kind, parts = "exp", []string{s[4:]}
	case strings.HasPrefix(s, "normal:"):
		l.kind, parts = "normal", strings.Split(s[7:], ":")
	case strings.Contains(s, "/"):
		l.kind, parts = "/", strings.Split(s, "/")
	case strings.Contains(s, "-"):
		l.kind, parts = "-", strings.Split(s, "-")
	default:
		parts = []string{s}
	}
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 || n > maxTokens || n == 0 && !(l.kind == "normal" && i == 1) {
			return Length{}, bad
		}
		l.list = append(l.list, n)
	}
	want := map[string]int{"": 1, "exp": 1, "normal": 2, "-": 2}[l.kind]
	if l.kind != "/" && len(l.list) != want || l.kind == "-" && l.list[0] > l.list[1] {
		return Length{}, bad
	}
	l.a = float64(l.list[0])
	if len(l.list) > 1 {
		l.b = float64(l.list[1])
	}
	return l, nil
}

// UnmarshalText reads a length.
func (l *Length) UnmarshalText(text []byte) error {
	parsed, err := ParseLength(string(text))
	if err == nil {
		*l = parsed
	}
	return err
}

// String is the length as it was written.
func (l Length) String() string { return l.text }

// MarshalText writes it as it was written.
func (l Length) MarshalText() ([]byte, error) { return []byte(l.text), nil }

// draw returns a length from 1 to maxTokens.
func (l Length) draw(r *rand.Rand) int {
	x := l.a
	switch l.kind {
	case "exp":
		x = r.ExpFloat64() * l.a
	case "normal":
		x = r.NormFloat64()*l.b + l.a
	case "-":
		x = l.a + float64(r.IntN(int(l.b-l.a)+1))
	case "/":
		x = float64(l.list[r.IntN(len(l.list))])
	}
	return int(math.Round(min(max(x, 1), maxTokens)))
}
