package quiet

import (
	"fmt"
	"testing"
	"time"
)

// A line comes once, then again after a while with how often it was left out; others are not touched by that.
func TestAgain(t *testing.T) {
	l := New()
	now := time.Unix(1, 0)
	l.now = func() time.Time { return now }
	say := func(line, about string, wantLeave bool, wantMissed int) {
		t.Helper()
		if leave, missed := l.Again(line, about); leave != wantLeave || missed != wantMissed {
			t.Errorf("%q about %q: left out %v, missed %d; want %v, %d", line, about, leave, missed, wantLeave, wantMissed)
		}
	}
	say("refused: from 10.0.0.1:4001", "", false, 0)
	for port := range 99 {
		say(fmt.Sprintf("refused: from 10.0.0.1:%d", port), "", true, 0)
	}
	say("refused: from 10.0.0.1:4001", "n2", false, 0)
	say("something else", "", false, 0)
	now = now.Add(For)
	say("refused: from 10.0.0.1:7", "", false, 99)
	say("refused: from 10.0.0.1:7", "", true, 0)
}

// What a stranger sends neither grows the memory nor fills the log.
func TestBounded(t *testing.T) {
	l := New()
	now := time.Unix(1, 0)
	l.now = func() time.Time { return now }
	say := func() (lines int) {
		for i := range 10 * most {
			if leave, _ := l.Again(fmt.Sprintf("%c%c%c", 'a'+i%26, 'a'+i/26%26, 'a'+i/676%26), ""); !leave {
				lines++
			}
		}
		return lines
	}
	if n := say(); n != most || len(l.by) != most {
		t.Errorf("%d lines are told and %d remembered, want %d", n, len(l.by), most)
	}
	now = now.Add(For)
	if n := say(); n != most {
		t.Errorf("%d lines are told later, want %d", n, most)
	}
	if leave, _ := l.Again(`bad label "x"`, ""); !leave {
		t.Error("one more is told")
	}
	now = now.Add(For)
	l.Again(`bad label "x"`, "")
	if leave, _ := l.Again(`bad label "y"`, ""); !leave {
		t.Error("what is quoted makes another line")
	}
}
