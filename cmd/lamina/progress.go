package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/term"
)

// line is a line of text that changes: in place at a terminal, else by a new line for each change.
type line struct {
	w     io.Writer
	tty   bool
	width int
	shown bool
}

func newLine(w io.Writer) *line {
	l := &line{w: w, width: 80}
	f, tty := terminal(w)
	if tty {
		l.tty = true
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 20 {
			l.width = width
		}
	}
	return l
}

func (l *line) set(text string) {
	if !l.tty {
		fmt.Fprintln(l.w, text)
		return
	}
	if r := []rune(text); len(r) >= l.width {
		text = string(r[:l.width-1])
	}
	fmt.Fprint(l.w, "\r\x1b[K"+text)
	l.shown = true
}

// close wipes the line off a terminal.
func (l *line) close() {
	if l.shown {
		fmt.Fprint(l.w, "\r\x1b[K")
		l.shown = false
	}
}

// bar shows how far some work on bytes has got, how fast it is and how long it will take. Away from a terminal it
// prints a line for every tenth.
type bar struct {
	line  *line
	what  string
	begun time.Time
	drawn time.Time
	tenth int64
	now   func() time.Time
}

// redraw is how often a bar at a terminal may change.
const redraw = 100 * time.Millisecond

func newBar(w io.Writer, what string) *bar {
	return &bar{line: newLine(w), what: what, begun: time.Now(), now: time.Now}
}

// set draws the bar: done of total bytes, at part.
func (b *bar) set(part string, done, total int64) {
	now := b.now()
	if total <= 0 {
		return
	}
	whole := done >= total
	if b.line.tty {
		if !whole && now.Sub(b.drawn) < redraw {
			return
		}
	} else {
		if tenth := done * 10 / total; tenth <= b.tenth {
			return
		} else {
			b.tenth = tenth
		}
	}
	b.drawn = now
	b.line.set(b.text(part, done, total, now.Sub(b.begun)))
}

// text is the bar: "sending m  [=====>    ]  52 %  51.2 of 98.4 MB, 120 MB/s, 1s left, layer.7".
func (b *bar) text(part string, done, total int64, took time.Duration) string {
	const width = 24
	full := int(done * width / total)
	drawing := strings.Repeat("=", full) + strings.Repeat(" ", width-full)
	out := fmt.Sprintf("%s  [%s] %3d %%  %s of %s", b.what, drawing, done*100/total, size(done), size(total))
	if s := took.Seconds(); s > 0 && done > 0 {
		speed := float64(done) / s
		out += fmt.Sprintf(", %s/s", size(int64(speed)))
		if done < total {
			left := time.Duration(float64(total-done) / speed * float64(time.Second))
			out += fmt.Sprintf(", %s left", left.Round(time.Second))
		}
	}
	if part != "" && done < total {
		out += ", " + part
	}
	return out
}

func (b *bar) close() { b.line.close() }
