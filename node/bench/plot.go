package bench

import (
	"fmt"
	"io"
	"math"
	"strconv"
)

// Size of a plot, and of the four panels in it.
const (
	plotWidth, plotHeight = 1000.0, 700.0
	plotTop               = 60.0
	marginLeft            = 68.0
	marginRight           = 20.0
	marginTop             = 34.0
	marginBottom          = 40.0
)

// ink is a colour: red, green, blue.
type ink [3]uint8

var (
	black = ink{30, 30, 30}
	grey  = ink{110, 110, 110}
	faint = ink{225, 225, 225}
	// Colours that people who see red and green alike can tell apart (Okabe and Ito).
	inks = [...]ink{{0, 114, 178}, {213, 94, 0}, {0, 158, 115}}
)

// anchor is which end of a text stands at its place.
type anchor int

const (
	atStart anchor = iota
	atMiddle
	atEnd
)

type dot struct{ x, y float64 }

// canvas is what plots are drawn on; y grows downwards.
type canvas interface {
	line(points []dot, width float64, c ink)
	disc(at dot, radius float64, c ink)
	text(at dot, a anchor, c ink, s string)
	write(w io.Writer) error
}

// SVG draws the report for browsers.
func (r *Report) SVG(w io.Writer) error { return r.draw(&svg{}, w) }

// PNG draws the same in pixels.
func (r *Report) PNG(w io.Writer) error { return r.draw(newPixels(), w) }

func (r *Report) draw(c canvas, w io.Writer) error {
	c.text(dot{20, 26}, atStart, black, "lamina bench: "+r.Model)
	c.text(dot{20, 46}, atStart, grey, fmt.Sprintf("%s, prompt %v, answer %v, %s", r.API, r.Prompt, r.Answer, r.Begun.UTC().Format("2006-01-02 15:04")))
	for i, p := range r.panels() {
		x, y := float64(i%2)*plotWidth/2, plotTop+float64(i/2)*(plotHeight-plotTop)/2
		p.draw(c, dot{x + marginLeft, y + marginTop}, dot{x + plotWidth/2 - marginRight, y + (plotHeight-plotTop)/2 - marginBottom})
	}
	return c.write(w)
}

// A panel is one pair of axes with curves.
type panel struct {
	title, under string
	ticks        []tick // of the x axis
	xMin, xMax   float64
	curves       []curve
	names        bool // the curves are told apart by name
}

type tick struct {
	at   float64
	text string
}

type curve struct {
	name   string
	points []dot
	marked bool // each point is a measurement of its own
}

// panels are four: speed and three latencies, over the loads, or of a single load over time and over the share of requests.
func (r *Report) panels() []panel {
	latencies := []struct {
		title string
		of    func(*Point) Summary
	}{
		{"time to first token, ms", func(p *Point) Summary { return p.TTFT }},
		{"gap between pieces, ms", func(p *Point) Summary { return p.Gap }},
		{"end to end, ms", func(p *Point) Summary { return p.Whole }},
	}
	if len(r.Points) == 1 {
		p := &r.Points[0]
		out := []panel{timePanel(p)}
		for _, l := range latencies {
			out = append(out, sharePanel(l.title, l.of(p).Curve))
		}
		return out
	}
	under := "requests at once"
	if len(r.Points) > 0 && r.Points[0].Rate > 0 {
		under = "arrivals a second"
	}
	over := func(title string, names []string, of func(*Point) []float64) panel {
		q := panel{title: title, under: under, xMin: -.3, xMax: float64(len(r.Points)) - .7, names: len(names) > 1}
		for _, n := range names {
			q.curves = append(q.curves, curve{name: n, marked: true})
		}
		for i := range r.Points {
			p := &r.Points[i]
			q.ticks = append(q.ticks, tick{float64(i), p.Label()})
			if p.Requests == p.Failed {
				continue
			}
			for j, y := range of(p) {
				q.curves[j].points = append(q.curves[j].points, dot{float64(i), y})
			}
		}
		return q
	}
	out := []panel{over("tokens a second", []string{"out"}, func(p *Point) []float64 { return []float64{p.OutPerSecond} })}
	for _, l := range latencies {
		out = append(out, over(l.title, []string{"p50", "p90", "p99"}, func(p *Point) []float64 {
			s := l.of(p)
			return []float64{s.P50, s.P90, s.P99}
		}))
	}
	return out
}

func timePanel(p *Point) panel {
	q := panel{title: "tokens a second, load " + p.Label(), under: "seconds", xMax: max(p.Seconds, 1e-3)}
	c := curve{}
	tokens := 1.0 // that a piece holds
	if p.Pieces > 0 {
		tokens = float64(p.OutTokens) / float64(p.Pieces)
	}
	for _, t := range p.Timeline {
		c.points = append(c.points, dot{min(t.At, q.xMax), t.Rate * tokens})
	}
	q.curves = []curve{c}
	for _, v := range steps(0, q.xMax, 8) {
		q.ticks = append(q.ticks, tick{v, round(v)})
	}
	return q
}

func sharePanel(title string, of []float64) panel {
	q := panel{title: title, under: "percent of all", xMax: 100}
	c := curve{}
	for i, v := range of {
		c.points = append(c.points, dot{float64(2 * i), v})
	}
	q.curves = []curve{c}
	for _, v := range []float64{0, 25, 50, 75, 90, 99} {
		q.ticks = append(q.ticks, tick{v, fmt.Sprint(v)})
	}
	return q
}

// draw puts the panel between two corners.
func (p *panel) draw(c canvas, from, to dot) {
	low, high := math.Inf(1), 0.0
	for _, k := range p.curves {
		for _, d := range k.points {
			low, high = min(low, d.y), max(high, d.y)
		}
	}
	if high <= 0 {
		low, high = 0, 1
	}
	y := axisOf(low, high)
	place := func(d dot) dot {
		return dot{from.x + (d.x-p.xMin)/(p.xMax-p.xMin)*(to.x-from.x), to.y - y.share(d.y)*(to.y-from.y)}
	}
	c.text(dot{from.x, from.y - 14}, atStart, black, p.title)
	for _, v := range y.ticks() {
		at := to.y - y.share(v)*(to.y-from.y)
		c.line([]dot{{from.x, at}, {to.x, at}}, 1, faint)
		c.text(dot{from.x - 8, at + 4}, atEnd, grey, round(v))
	}
	for _, t := range p.ticks {
		at := place(dot{t.at, 0}).x
		c.line([]dot{{at, to.y}, {at, to.y + 4}}, 1, grey)
		c.text(dot{at, to.y + 18}, atMiddle, grey, t.text)
	}
	c.line([]dot{{from.x, from.y}, {from.x, to.y}, {to.x, to.y}}, 1, grey)
	c.text(dot{(from.x + to.x) / 2, to.y + 34}, atMiddle, grey, p.under)
	for i, k := range p.curves {
		paint := inks[i%len(inks)]
		at := make([]dot, len(k.points))
		for j, d := range k.points {
			at[j] = place(d)
		}
		c.line(at, 2, paint)
		if k.marked {
			for _, d := range at {
				c.disc(d, 3.5, paint)
			}
		}
		if p.names {
			c.text(dot{to.x - float64(len(p.curves)-1-i)*40, from.y - 14}, atEnd, paint, k.name)
		}
	}
}

// axis is a scale from low to high: linear from zero, or logarithmic where values are far apart.
type axis struct {
	low, high float64
	log       bool
}

func axisOf(low, high float64) axis {
	if low > 0 && high/low > 20 {
		return axis{low / 1.2, high * 1.2, true}
	}
	return axis{0, high * 1.08, false}
}

// share is where a value stands, from 0 to 1.
func (a axis) share(v float64) float64 {
	if !a.log {
		return (v - a.low) / (a.high - a.low)
	}
	return math.Log(max(v, a.low)/a.low) / math.Log(a.high/a.low)
}

func (a axis) ticks() []float64 {
	if !a.log {
		return steps(a.low, a.high, 6)
	}
	var out []float64
	lead := []float64{1, 2, 5}
	if a.high/a.low > 1e4 {
		lead = lead[:1]
	}
	for e := math.Floor(math.Log10(a.low)); e <= math.Log10(a.high); e++ {
		for _, m := range lead {
			if v := m * math.Pow(10, e); v >= a.low && v <= a.high {
				out = append(out, v)
			}
		}
	}
	return out
}

// steps are at most n+1 round values from low to high.
func steps(low, high float64, n int) []float64 {
	raw := (high - low) / float64(n)
	step := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range []float64{1, 2, 5, 10} {
		if m*step >= raw {
			step *= m
			break
		}
	}
	var out []float64
	for i := math.Ceil(low / step); i*step <= high; i++ {
		out = append(out, i*step)
	}
	return out
}

// round writes a value that has few digits.
func round(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }
