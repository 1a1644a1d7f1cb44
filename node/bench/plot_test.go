package bench

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"math"
	"strings"
	"testing"
	"time"
)

// sample is a report as a run makes it.
func sample(loads ...Load) *Report {
	cfg := Default()
	cfg.URL, cfg.Model, cfg.Loads = "http://x", "a<b&c", loads
	r := newReport(&cfg)
	for i, l := range loads {
		begun := time.Now()
		y := newTally(begun)
		for j := range 20 {
			at := begun.Add(time.Duration(j) * 50 * time.Millisecond)
			o := outcome{due: at, begun: at, end: at.Add(time.Duration(i+1) * time.Second), text: "x", usage: true, prompt: 20, answer: 10}
			for k := range 10 {
				o.mark(at.Add(time.Duration((k+1)*(i+1)) * 20 * time.Millisecond))
			}
			y.add(&o, request{n: j, fresh: true, turn: turn{answer: 10}})
		}
		r.Points = append(r.Points, *y.point(l))
	}
	r.finish()
	return r
}

// Plots are well-formed, hold what they must, and nothing of them lies outside.
func TestPlots(t *testing.T) {
	for _, c := range []struct {
		r    *Report
		want []string
	}{
		{sample(Load{Concurrency: 1}, Load{Concurrency: 4}, Load{Concurrency: 16}), []string{"requests at once", ">16<", "p99", "a&lt;b&amp;c", "gap between pieces"}},
		{sample(Load{Rate: 2}, Load{Rate: 2.5}), []string{"arrivals a second", ">2.5/s<"}},
		{sample(Load{Concurrency: 3}), []string{"load 3", "percent of all", "seconds"}},
		{sample(), []string{"lamina bench"}},
	} {
		var svg, pic bytes.Buffer
		if err := errors.Join(c.r.SVG(&svg), c.r.PNG(&pic)); err != nil {
			t.Fatal(err)
		}
		for _, w := range c.want {
			if !strings.Contains(svg.String(), w) {
				t.Errorf("no %q in the drawing", w)
			}
		}
		if strings.Contains(svg.String(), "NaN") || strings.Contains(svg.String(), "Inf") || strings.Contains(svg.String(), `="-`) {
			t.Errorf("a place that is none: %s", svg.String())
		}
		d := xml.NewDecoder(&svg)
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		m, err := png.Decode(&pic)
		if err != nil || m.Bounds().Dx() != plotWidth*fine {
			t.Fatal(err)
		}
	}
}

// A line is as dark as it is wide, and text stands where it is told.
func TestPixels(t *testing.T) {
	p := newPixels()
	p.line([]dot{{10, 10}, {50, 10}}, 2, black)
	p.text(dot{100, 100}, atEnd, black, "Q?\u00e9")
	p.line([]dot{{-50, -50}, {2000, 2000}}, 1, black) // leaves the picture on both sides
	ink := 0.0
	for y := range 40 {
		for x := 50; x < 80; x++ { // a part of the line, away from its ends and from the other one
			if x < y+10 {
				continue
			}
			r, _, _, _ := p.m.At(x, y).RGBA()
			ink += float64(0xffff-r) / float64(0xffff-30*0x101)
		}
	}
	if want := 30.0 * 4; math.Abs(ink-want) > 2 {
		t.Errorf("%.1f pixels of ink, want %g", ink, want)
	}
	dark := func(x0, x1 int) (n int) {
		for y := 150; y < 210; y++ {
			for x := x0; x < x1; x++ {
				if r, _, _, _ := p.m.At(x, y).RGBA(); r < 0x8000 && (x < y-4 || x > y+4) {
					n++
				}
			}
		}
		return n
	}
	if dark(200-3*6*glyph, 200) == 0 || dark(200, 260) != 0 {
		t.Error("text does not end where it should")
	}
	for r, rows := range letterForms {
		for i, row := range strings.Fields(rows) {
			if len(row) != 5 || strings.Trim(row, "#.") != "" || i > 8 {
				t.Errorf("letter %q: row %q", r, row)
			}
		}
	}
}

func TestAxes(t *testing.T) {
	for _, c := range []struct {
		low, high float64
		log       bool
	}{{0, 5, false}, {1, 19, false}, {1, 30, true}, {0.001, 1e6, true}, {7, 7, false}} {
		a := axisOf(c.low, c.high)
		ticks := a.ticks()
		if a.log != c.log || len(ticks) < 2 || len(ticks) > 12 || a.share(c.high) > 1 || a.share(c.low) < 0 {
			t.Errorf("%+v: %+v %v", c, a, ticks)
		}
		for i, v := range ticks {
			if s := a.share(v); s < -1e-9 || s > 1+1e-9 || i > 0 && v <= ticks[i-1] {
				t.Errorf("%+v: ticks %v", c, ticks)
			}
		}
	}
}

// The timeline keeps every piece while it grows coarser.
func TestTimelineKeepsAll(t *testing.T) {
	l := timeline{width: 100 * time.Millisecond}
	n := 0
	for at := -time.Second; at < 10*time.Minute; at += 730 * time.Millisecond {
		l.add(at)
		n++
	}
	sum := 0.0
	for _, p := range l.points() {
		sum += p.Rate * l.width.Seconds()
	}
	if len(l.bins) > maxBins || math.Abs(sum-float64(n)) > 1e-6 {
		t.Errorf("%d bins of %v hold %g of %d", len(l.bins), l.width, sum, n)
	}
}

func TestText(t *testing.T) {
	r := sample(Load{Concurrency: 1}, Load{Concurrency: 16})
	r.Prefix, r.Groups, r.Turns = 100, 2, 3
	r.Points[1].Failed, r.Points[1].Requests = 2, 22
	r.Points[1].Errors = []ErrorCount{{"http 503", 2, "full"}}
	r.Points[1].TTFTReused, r.Points[1].TTFTFresh = &Summary{P50: 10, Count: 5}, &Summary{P50: 100, Count: 3}
	r.Points[1].Early, r.Points[1].Silent, r.Points[1].Uncounted, r.Points[1].Pieces, r.Points[1].GaveUp = 1, 2, 3, 100, "gave up"
	r.finish()
	var b bytes.Buffer
	if err := r.Text(&b); err != nil {
		t.Fatal(err)
	}
	for _, w := range []string{"STREAMS", "after 100 shared ones (2 groups) in 3 turns", "10.0 times", "2 x http 503, such as: full", "1 of 20 answers were shorter", "2 of 20 answers had no text",
		"no tokens in 3 of 20", "holds 2.00 tokens", "gave up"} {
		if !strings.Contains(b.String(), w) {
			t.Errorf("no %q in\n%s", w, b.String())
		}
	}
}
