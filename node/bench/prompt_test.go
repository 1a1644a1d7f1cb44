package bench

import (
	"reflect"
	"strings"
	"testing"
)

// Equal seeds give equal conversations, whoever asks first; another seed, load or number gives others.
func TestTalkIsAFunctionOfSeedAndNumber(t *testing.T) {
	c := Default()
	c.Seed, c.Prompt = 7, Fixed(40)
	s := scale{fixed: 30, each: 1}
	a := c.talk(s, "load 0", 5)
	c.talk(s, "load 0", 6)
	if b := c.talk(s, "load 0", 5); !reflect.DeepEqual(a, b) {
		t.Errorf("%v and %v", a, b)
	}
	other := c
	other.Seed = 8
	for _, b := range []conversation{c.talk(s, "load 0", 6), c.talk(s, "load 1", 5), other.talk(s, "load 0", 5)} {
		if b.turns[0].text == a.turns[0].text {
			t.Errorf("the same prompt again: %q", b.turns[0].text)
		}
	}
	if n := len(strings.Fields(a.turns[0].text)); n != 10 {
		t.Errorf("%d words for 40 tokens, 30 of them the template's", n)
	}
}

// Prompts of a group begin with the same words and go on with their own; turns have lengths of their own.
func TestSharedPrefixAndTurns(t *testing.T) {
	c := Default()
	c.Prefix, c.Groups, c.Turns, c.Prompt, c.Answer = 50, 3, 4, Fixed(20), Fixed(9)
	starts := map[int]string{}
	whole := map[string]bool{}
	for n := range 30 {
		v := c.talk(scale{each: 1}, "load 0", n)
		if len(v.turns) != 4 || v.turns[3].answer != 9 || len(strings.Fields(v.turns[1].text)) != 20 {
			t.Fatalf("%+v", v)
		}
		w := strings.Fields(v.turns[0].text)
		if len(w) != 70 {
			t.Fatalf("%d words", len(w))
		}
		start := strings.Join(w[:50], " ")
		if s, seen := starts[v.group]; seen && s != start {
			t.Errorf("group %d begins with %q and with %q", v.group, s, start)
		}
		starts[v.group] = start
		whole[v.turns[0].text] = true
	}
	if len(starts) != 3 || len(whole) != 30 || starts[0] == starts[1] {
		t.Errorf("%d groups, %d different prompts", len(starts), len(whole))
	}
}

func TestScale(t *testing.T) {
	s := scaleOf(16, 16*2+31, 80, 80*2+31)
	if s.each != 2 || s.fixed != 31 || s.words(131) != 50 || s.words(5) != 1 || s.more(10) != 5 {
		t.Errorf("%+v", s)
	}
	for _, odd := range []scale{scaleOf(16, 5, 80, 5), scaleOf(16, 0, 80, 1e6), scaleOf(16, 900, 80, 16)} {
		if odd != (scale{each: 1}) {
			t.Errorf("%+v", odd)
		}
	}
	if seen := map[string]bool{}; len(vocabulary) < 500 {
		t.Errorf("%d words", len(vocabulary))
	} else {
		for _, w := range vocabulary {
			if seen[w] {
				t.Errorf("%q is there twice", w)
			}
			seen[w] = true
		}
	}
}
