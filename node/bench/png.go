package bench

import (
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"math"
	"strings"
)

// pixels is a canvas of pixels, twice as fine as the plot's own measure.
type pixels struct{ m *image.RGBA }

const (
	fine  = 2
	glyph = 3 // pixels of a point of a letter
)

func newPixels() *pixels {
	m := image.NewRGBA(image.Rect(0, 0, plotWidth*fine, plotHeight*fine))
	draw.Draw(m, m.Bounds(), image.White, image.Point{}, draw.Src)
	return &pixels{m}
}

// blend lays ink over a pixel, as much as its share that is covered.
func (p *pixels) blend(x, y int, c ink, share float64) {
	if share <= 0 || !(image.Point{x, y}).In(p.m.Rect) {
		return
	}
	share = min(share, 1)
	old := p.m.RGBAAt(x, y)
	mix := func(a, b uint8) uint8 { return uint8(math.Round(float64(a)*(1-share) + float64(b)*share)) }
	p.m.SetRGBA(x, y, color.RGBA{mix(old.R, c[0]), mix(old.G, c[1]), mix(old.B, c[2]), 255})
}

func (p *pixels) line(points []dot, width float64, c ink) {
	for i := 1; i < len(points); i++ {
		p.segment(points[i-1], points[i], width*fine/2, c)
	}
}

// segment paints what is nearer than radius to the line from a to b.
func (p *pixels) segment(a, b dot, radius float64, c ink) {
	a, b = dot{a.x * fine, a.y * fine}, dot{b.x * fine, b.y * fine}
	x0, x1 := int(min(a.x, b.x)-radius-1), int(max(a.x, b.x)+radius+1)
	y0, y1 := int(min(a.y, b.y)-radius-1), int(max(a.y, b.y)+radius+1)
	dx, dy := b.x-a.x, b.y-a.y
	long := dx*dx + dy*dy
	for y := max(y0, 0); y <= min(y1, p.m.Rect.Max.Y); y++ {
		for x := max(x0, 0); x <= min(x1, p.m.Rect.Max.X); x++ {
			px, py := float64(x)+.5-a.x, float64(y)+.5-a.y
			t := 0.0
			if long > 0 {
				t = min(max((px*dx+py*dy)/long, 0), 1)
			}
			p.blend(x, y, c, radius+.5-math.Hypot(px-t*dx, py-t*dy))
		}
	}
}

func (p *pixels) disc(at dot, radius float64, c ink) { p.segment(at, at, radius*fine, c) }

func (p *pixels) text(at dot, a anchor, c ink, s string) {
	letters := []rune(strings.ToLower(s))
	x, y := int(at.x*fine), int(at.y*fine)-7*glyph
	switch width := len(letters) * 6 * glyph; a {
	case atMiddle:
		x -= width / 2
	case atEnd:
		x -= width
	}
	for _, r := range letters {
		rows, ok := letterForms[r]
		if !ok {
			rows = letterForms['?']
		}
		for i, row := range strings.Fields(rows) {
			for j := range row {
				if row[j] == '#' {
					draw.Draw(p.m, image.Rect(x+j*glyph, y+i*glyph, x+(j+1)*glyph, y+(i+1)*glyph), image.NewUniform(color.RGBA{c[0], c[1], c[2], 255}), image.Point{}, draw.Src)
				}
			}
		}
		x += 6 * glyph
	}
}

func (p *pixels) write(w io.Writer) error { return png.Encode(w, p.m) }
