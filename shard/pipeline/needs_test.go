package pipeline

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// Nodes are needed by the sequences in flight, and by nothing else.
func TestNeeds(t *testing.T) {
	l := newLab(t, 3, Limits{})
	defer l.close()
	l.host("idle", Limits{})
	needs := func() string {
		var b strings.Builder
		for _, from := range []string{"g", "n0", "n1", "n2", "idle"} {
			for _, to := range []string{"g", "n0", "n1", "n2", "idle"} {
				if l.hosts[from].Needs(to) {
					fmt.Fprintf(&b, "%s:%s ", from, to)
				}
			}
		}
		return b.String()
	}
	seen := ""
	l.fakes[2].before = func(step int, _ []Rows) error {
		if step == 3 {
			seen = needs()
		}
		return nil
	}
	if _, _, err := l.generate(context.Background(), "g", l.request(1, 3, 5)); err != nil {
		t.Fatal(err)
	}
	if want := "g:n0 g:n1 g:n2 n0:g n0:n1 n0:n2 n1:g n1:n0 n1:n2 n2:g n2:n0 n2:n1 "; seen != want {
		t.Errorf("in flight: %q, want %q", seen, want)
	}
	if got := needs(); strings.Contains(got, "g:") {
		t.Errorf("after its end the gateway needs %q", got)
	}
}
