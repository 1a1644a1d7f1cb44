package jinja

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"
)

// hostile holds templates that must end in ErrLimit, whatever they try to fill or to keep busy.
var hostile = map[string]string{
	"nested loops":        `{% for a in range(1000) %}{% for b in range(1000) %}{% for c in range(1000) %}{% endfor %}{% endfor %}{% endfor %}`,
	"huge range":          `{% for a in range(1000000000) %}{% endfor %}`,
	"many ranges":         `{% for a in range(99999) %}{{ range(99999)|length }}{% endfor %}`,
	"doubling text":       `{% set ns = namespace(s='0123456789') %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}`,
	"doubling by tilde":   `{% set ns = namespace(s='0123456789') %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}`,
	"doubling list":       `{% set ns = namespace(l=[1]) %}{% for i in range(64) %}{% set ns.l = ns.l + ns.l %}{% endfor %}`,
	"repeat text":         `{{ 'a' * 1000000000 }}`,
	"repeat text a lot":   `{{ 'abc' * 9223372036854775807 }}`,
	"repeat list":         `{{ ([1] * 1000000000)|length }}`,
	"repeat repeat":       `{% for i in range(100000) %}{% set x = 'a' * 1000000 %}{% endfor %}`,
	"power":               `{{ 9 ** 9 ** 9 ** 9 }}`,
	"power of big":        `{{ 2 ** 100000000 }}`,
	"integer overflow":    `{{ 9223372036854775807 + 1 }}`,
	"recursive macro":     `{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}`,
	"recursive pair":      `{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}`,
	"recursive caller":    `{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{{ caller() }}{% endmacro %}{% call f() %}x{% endcall %}`,
	"branching macro":     `{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(31) }}`,
	"default recursion":   `{% macro f(a=f()) %}{% endmacro %}{{ f() }}`,
	"long output":         `{% for a in range(100000) %}` + strings.Repeat("x", 100) + `{% endfor %}`,
	"deep value print":    `{% set ns = namespace(l=[]) %}{% for i in range(200) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}`,
	"deep value json":     `{% set ns = namespace(l=[]) %}{% for i in range(200) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l|tojson }}`,
	"deep value equal":    `{% set ns = namespace(l=[], m=[]) %}{% for i in range(200) %}{% set ns.l = [ns.l] %}{% set ns.m = [ns.m] %}{% endfor %}{{ ns.l == ns.m }}`,
	"wide shared print":   `{% set ns = namespace(l=[1]) %}{% for i in range(50) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}`,
	"wide shared json":    `{% set ns = namespace(l=[1]) %}{% for i in range(50) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l|tojson }}`,
	"wide shared equal":   `{% set ns = namespace(l=[1], m=[1]) %}{% for i in range(50) %}{% set ns.l = [ns.l, ns.l] %}{% set ns.m = [ns.m, ns.m] %}{% endfor %}{{ ns.l == ns.m }}`,
	"replace grows":       `{% set ns = namespace(s='aaaaaaaaaa') %}{% for i in range(64) %}{% set ns.s = ns.s|replace('a', 'aaaaaaaaaa') %}{% endfor %}`,
	"replace nothing":     `{{ ('a' * 1000000)|replace('', 'bbbbbbbb') }}`,
	"join grows":          `{{ range(100000)|join('a' * 10000) }}`,
	"indent grows":        `{{ ('\n' * 100000)|indent(100000, blank=true) }}`,
	"center":              `{{ 'a'|center(2000000000) }}`,
	"ljust wide":          `{{ 'a'.ljust(2000000, '😀') }}`,
	"zfill":               `{{ 'a'.zfill(2000000000) }}`,
	"percent width":       `{{ '%999999999d' % 1 }}`,
	"percent many":        `{% for i in range(100000) %}{% set x = '%60000d' % 1 %}{% endfor %}`,
	"format width":        `{{ '{:999999999}'.format(1) }}`,
	"json indent":         `{{ [[[[1]]]]|tojson(indent=1000000000) }}`,
	"json indent deep":    `{% set ns = namespace(l=[]) %}{% for i in range(90) %}{% set ns.l = [ns.l] %}{% endfor %}{% for i in range(100000) %}{% set x = ns.l|tojson(indent=' ' * 10000) %}{% endfor %}`,
	"sort a lot":          `{% set l = range(50000)|reverse|list %}{% for i in range(1000) %}{% set x = l|sort %}{% endfor %}`,
	"split a lot":         `{% set s = 'a ' * 400000 %}{% for i in range(1000) %}{% set x = s.split() %}{% endfor %}`,
	"split characters":    `{% set s = 'aa' * 400000 %}{% for i in range(1000) %}{% set x = s.split('a') %}{% endfor %}`,
	"search a lot":        `{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{% set x = 'ab' in s %}{% endfor %}`,
	"compare a lot":       `{% set s = 'a' * 1000000 %}{% set t = s + 'b' %}{% set u = s + 'c' %}{% for i in range(100000) %}{% set x = t == u %}{% endfor %}`,
	"hash a lot":          `{% set s = 'a' * 1000000 %}{% set d = {s: 1} %}{% for i in range(100000) %}{% set x = d[s] %}{% endfor %}`,
	"trim a lot":          `{% set s = ' ' * 1000000 %}{% for i in range(100000) %}{% set x = s|trim %}{% endfor %}`,
	"upper a lot":         `{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{% set x = s|upper %}{% endfor %}`,
	"length a lot":        `{% set s = 'é' * 500000 %}{% for i in range(100000) %}{% set x = s|length %}{% endfor %}`,
	"index a lot":         `{% set s = 'é' * 500000 %}{% for i in range(100000) %}{% set x = s[-1] %}{% endfor %}`,
	"startswith a lot":    `{% set s = 'a' * 1000000 %}{% set t = s + 'b' %}{% for i in range(100000) %}{% set x = t.startswith(s) %}{% endfor %}`,
	"walk text":           `{% set s = 'a' * 1000000 %}{% for i in range(1000) %}{% set x = s|list %}{% endfor %}`,
	"map a lot":           `{% for i in range(1000) %}{% set x = range(50000)|map('string')|list %}{% endfor %}`,
	"batch fill":          `{{ [1]|batch(2000000000, 0)|list }}`,
	"slice fill":          `{{ [1]|slice(2000000000, 0)|list }}`,
	"strip set":           `{% set c = 'b' * 100000 %}{% for i in range(100000) %}{% set x = ('a' * 100000).strip(c) %}{% endfor %}`,
	"strftime":            `{{ strftime_now('%c' * 100000) }}`,
	"group a lot":         `{% for i in range(1000) %}{% set x = range(50000)|groupby('x', default=1)|list %}{% endfor %}`,
	"unique a lot":        `{% for i in range(1000) %}{% set x = range(50000)|unique|list %}{% endfor %}`,
	"scopes":              strings.Repeat(`{% with %}`, 90) + `{% for i in range(99999) %}{% for j in range(999) %}{{ x }}{% endfor %}{% endfor %}` + strings.Repeat(`{% endwith %}`, 90),
	"slice a lot":         `{% set l = range(99999)|list %}{% for i in range(10000) %}{% set x = l[::-1] %}{% endfor %}`,
	"kwargs a lot":        `{% macro m() %}{{ kwargs|length }}{% endmacro %}{% set d = dict(range(50000)|map('string')|batch(2)|list) %}{% for i in range(9999) %}{{ m(**d) }}{% endfor %}`,
	"sum of lists":        `{{ ([[1] * 1000] * 1000)|sum(start=[]) }}`,
	"changed a lot":       `{% set l = [1] * 100000 %}{% for i in range(1000) %}{{ loop.changed(l) }}{% endfor %}`,
	"escape grows":        `{{ ("'" * 1000000)|e }}`,
	"dict of many":        `{% for i in range(1000) %}{% set d = dict(range(90000)|batch(2)) %}{% endfor %}`,
	"truncate a lot":      `{% set s = 'é' * 500000 %}{% for i in range(99999) %}{% set x = s|truncate(9) %}{% endfor %}`,
	"concat in a loop":    `{% set ns = namespace(s='') %}{% for i in range(99999) %}{% for j in range(100) %}{% set ns.s = ns.s ~ 'abcdefgh' %}{% endfor %}{% endfor %}`,
	"int of long digits":  `{% set s = '9' * 1000000 %}{% for i in range(99999) %}{% set x = s|int %}{% endfor %}`,
	"find with a window":  `{% set s = 'é' * 500000 %}{% for i in range(99999) %}{% set x = s.find('x', 3) %}{% endfor %}`,
	"splitlines a lot":    `{% set s = '\n' * 1000000 %}{% for i in range(99999) %}{% set x = s.splitlines(true) %}{% endfor %}`,
	"wordcount a lot":     `{% set s = 'é ' * 300000 %}{% for i in range(99999) %}{% set x = s|wordcount %}{% endfor %}`,
	"rsplit white space":  `{% set s = ' ' * 500000 ~ 'a b ' * 100000 %}{% for i in range(99999) %}{% set x = s.rsplit() %}{% endfor %}`,
	"namespace as a list": `{% set ns = namespace(d={}) %}{% for i in range(99999) %}{% for j in range(99) %}{% set ns.d = dict(ns.d, **{i|string: 1}) %}{% endfor %}{% endfor %}`,
}

func TestHostile(t *testing.T) {
	for name, source := range hostile {
		t.Run(name, func(t *testing.T) {
			tmpl, err := Parse(source)
			if err != nil {
				t.Fatal(err)
			}
			out, err := tmpl.Render(nil, time.Time{}, Limits{})
			if !errors.Is(err, ErrLimit) {
				t.Errorf("gave %d bytes and error %v, want ErrLimit", len(out), err)
			}
			var where *Error
			if !errors.As(err, &where) || where.Line < 1 {
				t.Errorf("error %v names no line", err)
			}
		})
	}
}

// TestDeepSource checks that nesting and length of the source are bounded at parsing, and that what
// parses can be run.
func TestDeepSource(t *testing.T) {
	const n = 30_000
	for name, source := range map[string]string{
		"parentheses": `{{ ` + strings.Repeat("(", n) + "1" + strings.Repeat(")", n) + ` }}`,
		"lists":       `{{ ` + strings.Repeat("[", n) + strings.Repeat("]", n) + ` }}`,
		"dicts":       `{{ ` + strings.Repeat("{1:", n) + "1" + strings.Repeat("}", n) + ` }}`,
		"not":         `{{ ` + strings.Repeat("not ", n) + `1 }}`,
		"minus":       `{{ ` + strings.Repeat("-", n) + `1 }}`,
		"inline if":   `{{ ` + strings.Repeat("1 if 0 else ", n/2) + `1 }}`,
		"plus":        `{{ 1` + strings.Repeat("+1", n) + ` }}`,
		"tilde":       `{{ 1` + strings.Repeat("~1", n) + ` }}`,
		"power":       `{{ 1` + strings.Repeat("**1", n) + ` }}`,
		"and":         `{{ 1` + strings.Repeat(" and 1", n) + ` }}`,
		"or":          `{{ 1` + strings.Repeat(" or 1", n) + ` }}`,
		"less":        `{{ 1` + strings.Repeat("<1", n) + ` }}`,
		"attributes":  `{{ x` + strings.Repeat(".x", n) + ` }}`,
		"calls":       `{{ x` + strings.Repeat("()", n) + ` }}`,
		"filters":     `{{ x` + strings.Repeat("|e", n) + ` }}`,
		"tests":       `{{ x` + strings.Repeat(" is odd", n) + ` }}`,
		"blocks":      strings.Repeat("{% if 1 %}", n/2),
		"loops":       strings.Repeat("{% for a in b %}", n/2),
		"targets":     `{% set ` + strings.Repeat("(", n) + `a` + strings.Repeat(")", n) + ` = 1 %}`,
		"arguments":   `{{ ` + strings.Repeat("f(", n) + strings.Repeat(")", n) + ` }}`,
		"subscripts":  `{{ ` + strings.Repeat("x[", n) + strings.Repeat("]", n) + ` }}`,
		"size":        strings.Repeat("x", maxSource+1),
	} {
		if _, err := Parse(source); !errors.Is(err, ErrSyntax) {
			t.Errorf("%s: error %v, want ErrSyntax", name, err)
		}
	}
	if _, err := render(`{{ `+strings.Repeat("(", 60)+"1"+strings.Repeat("+1)", 60)+` }}`, nil, time.Time{}); err != nil {
		t.Errorf("60 parentheses: %v", err)
	}
}

// TestMemory checks that what a template keeps alive is bounded by its fuel.
func TestMemory(t *testing.T) {
	var before, after runtime.MemStats
	source := `{% set ns = namespace(l=[]) %}{% for i in range(60) %}{% set ns.l = ns.l + [range(10000)|map('string')|list] %}{% endfor %}{{ raise_exception('full') }}`
	runtime.GC()
	runtime.ReadMemStats(&before)
	if _, err := render(source, nil, time.Time{}); err == nil {
		t.Fatal("no error")
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 256<<20 {
		t.Errorf("allocated %d MiB in one rendering", grown>>20)
	}
}

func TestLimitsAreTheCallers(t *testing.T) {
	tmpl, err := Parse(`{% macro f(n) %}{% if n %}{{ f(n - 1) }}{% endif %}x{% endmacro %}{{ f(5) }}`)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		limits Limits
		ok     bool
	}{
		{Limits{}, true},
		{Limits{Depth: 6}, true},
		{Limits{Depth: 5}, false},
		{Limits{Steps: 20}, false},
		{Limits{Output: 5}, false},
		{Limits{Output: 6}, true},
	} {
		out, err := tmpl.Render(nil, time.Time{}, c.limits)
		if c.ok && (err != nil || out != "xxxxxx") {
			t.Errorf("%+v: %q, %v", c.limits, out, err)
		}
		if !c.ok && !errors.Is(err, ErrLimit) {
			t.Errorf("%+v: error %v, want ErrLimit", c.limits, err)
		}
	}
}

func TestErrorsNameTheLine(t *testing.T) {
	for _, c := range []struct {
		source string
		line   int
		want   error
	}{
		{"a\nb\n{{ nope() }}", 3, ErrEval},
		{"{% if x %}\n\n{{ 1 }", 3, ErrSyntax},
		{"{% for x in [1] %}\n{{ 'a\n' }}\n{{ raise_exception('no') }}{% endfor %}", 4, ErrRaised},
		{"{# a\nb #}\n{% raw %}\n{% endraw %}\n{{ 1 +\n 'a' }}", 5, ErrEval},
		{"{{ [\n1,\n2 % 0] }}", 3, ErrEval},
		{"\n{% macro m() %}\n{{ 1|nope }}{% endmacro %}\n\n{{ m() }}", 3, ErrEval},
		{"x\n{% nope %}", 2, ErrSyntax},
	} {
		_, err := render(c.source, nil, time.Time{})
		var where *Error
		if !errors.As(err, &where) || where.Line != c.line || !errors.Is(err, c.want) {
			t.Errorf("%q: error %v, want line %d and %v", c.source, err, c.line, c.want)
		}
	}
}
