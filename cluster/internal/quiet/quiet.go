// Package quiet keeps lines of logs from being told over and over: raft says up to a hundred times a second that a peer is
// away, and memberlist of every packet from a stranger that it is not the cluster's.
package quiet

import (
	"maps"
	"strings"
	"sync"
	"time"
)

const (
	// For is how long the same line is left out after it was told.
	For = 10 * time.Second
	// most bounds the lines that are remembered, and so how many may be told within For.
	most = 256
	// longest is how much of a line tells it from others.
	longest = 200
)

// Lines remembers what was told when. Safe for use by many goroutines.
type Lines struct {
	now func() time.Time
	mu  sync.Mutex
	by  map[string]told
}

// told is when a line was told last, and how often it was left out since.
type told struct {
	at     time.Time
	missed int
}

// New returns Lines that have seen nothing.
func New() *Lines { return &Lines{now: time.Now, by: map[string]told{}} }

// Again says whether a line is to be left out, and else how often it was since it was last told. Lines that differ in
// their numbers or after a quotation mark only are the same: ports change, and what is quoted comes from strangers. What tells lines of different peers apart is to stand in `about`.
func (l *Lines) Again(line, about string) (leave bool, missed int) {
	key := about + "\n" + shape(line)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	t, known := l.by[key]
	if known && now.Sub(t.at) < For {
		t.missed++
		l.by[key] = t
		return true, 0
	}
	if len(l.by) >= most {
		maps.DeleteFunc(l.by, func(_ string, t told) bool { return now.Sub(t.at) >= For })
	}
	if len(l.by) >= most {
		return true, 0
	}
	l.by[key] = told{at: now}
	return false, t.missed
}

// shape is a line without its digits and without what follows a quotation mark.
func shape(line string) string {
	line, _, _ = strings.Cut(line, `"`)
	if len(line) > longest {
		line = line[:longest]
	}
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, line)
}
