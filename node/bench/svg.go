package bench

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// svg is a canvas of shapes.
type svg struct{ b strings.Builder }

func (c ink) hex() string { return fmt.Sprintf("#%02x%02x%02x", c[0], c[1], c[2]) }

func (s *svg) line(points []dot, width float64, c ink) {
	if len(points) < 2 {
		return
	}
	s.b.WriteString(`<polyline fill="none" stroke-linejoin="round" points="`)
	for _, p := range points {
		fmt.Fprintf(&s.b, "%.1f,%.1f ", p.x, p.y)
	}
	fmt.Fprintf(&s.b, "\" stroke=\"%s\" stroke-width=\"%g\"/>\n", c.hex(), width)
}

func (s *svg) disc(at dot, radius float64, c ink) {
	fmt.Fprintf(&s.b, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%g\" fill=\"%s\"/>\n", at.x, at.y, radius, c.hex())
}

func (s *svg) text(at dot, a anchor, c ink, text string) {
	fmt.Fprintf(&s.b, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" fill=\"%s\">", at.x, at.y, [...]string{"start", "middle", "end"}[a], c.hex())
	_ = xml.EscapeText(&s.b, []byte(text)) // a Builder takes everything
	s.b.WriteString("</text>\n")
}

func (s *svg) write(w io.Writer) error {
	_, err := fmt.Fprintf(w, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %g %g\" width=\"%[1]g\" height=\"%[2]g\" font-family=\"sans-serif\" font-size=\"13\">\n"+
		"<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n%s</svg>\n", plotWidth, plotHeight, s.b.String())
	return err
}
