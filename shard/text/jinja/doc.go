// Package jinja renders chat templates: the part of Jinja2 that model files use, in a cage.
//
// A chat template comes with a model file, so its author is a stranger. The engine therefore offers
// no way out of the values it is given: no include, import, extends or files, no attribute walk over
// host objects, no mutation, a fixed list of filters, tests and methods. Every evaluation spends
// fuel in proportion to the work it causes (nodes visited, elements made, bytes copied); when the
// fuel, the output or the depth of calls runs out, rendering ends in an error that wraps ErrLimit.
// The bound is a count of steps and not a clock, so a template renders alike on every machine.
//
// Results follow Python's Jinja2 (3.1) as Hugging Face's transformers sets it up for chat templates:
// trim_blocks and lstrip_blocks on, one newline at the end of the source dropped, autoescape off,
// the loop controls, {% generation %}, json.dumps as tojson, raise_exception and strftime_now.
// Errors carry the line of the template.
//
// A Template is immutable and may be rendered by several goroutines at once.
package jinja

import (
	"errors"
	"fmt"
	"time"
)

// Errors that a *Error wraps; compare with errors.Is.
var (
	// ErrSyntax: the source is not a template that this engine accepts.
	ErrSyntax = errors.New("template syntax")
	// ErrLimit: the template needs more steps, depth or output than it is granted.
	ErrLimit = errors.New("template limit")
	// ErrRaised: the template itself called raise_exception; the text is the template's.
	ErrRaised = errors.New("raised by the template")
	// ErrEval: an operation does not fit its values, as an exception would be in Python.
	ErrEval = errors.New("template evaluation")
)

// Error is a failure at a line of the template.
type Error struct {
	Line int   // 1-based
	Err  error // wraps one of the sentinels
}

// Error says the line and the cause.
func (e *Error) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// at gives err a line unless it has one already.
func at(line int, err error) error {
	if _, ok := err.(*Error); ok {
		return err
	}
	return &Error{Line: line, Err: err}
}

// evalErrorf makes an ErrEval.
func evalErrorf(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrEval, fmt.Sprintf(format, a...))
}

// Limits bound one rendering. The zero value of a field means its default.
type Limits struct {
	// Steps is the fuel: about one per node evaluated, per element made and per 32 bytes copied.
	Steps int
	// Depth bounds calls of macros within macros.
	Depth int
	// Output bounds the result, and every string on the way to it, in bytes.
	Output int
}

// DefaultLimits are 1,000,000 steps, depth 32 and 1 MiB.
func DefaultLimits() Limits { return Limits{Steps: 1_000_000, Depth: 32, Output: 1 << 20} }

// withDefaults fills what is not set.
func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	if l.Steps <= 0 {
		l.Steps = d.Steps
	}
	if l.Depth <= 0 {
		l.Depth = d.Depth
	}
	if l.Output <= 0 {
		l.Output = d.Output
	}
	return l
}

// Template is a parsed template.
type Template struct {
	body []stmt
}

// Parse reads a template. The source must be UTF-8 of at most 256 KiB.
func Parse(src string) (*Template, error) {
	tokens, err := lex(src)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	body, err := p.parseTemplate()
	if err != nil {
		return nil, err
	}
	return &Template{body: body}, nil
}

// Render runs the template over vars, whose values may be nil, booleans, numbers, strings, slices,
// *Dict, maps (their keys are sorted, since Go's have no order), json.RawMessage (keeps the order of
// keys) or anything that encoding/json can encode. now is what strftime_now formats.
func (t *Template) Render(vars map[string]any, now time.Time, limits Limits) (string, error) {
	root := &scope{vars: make(map[string]any, len(vars)+8)}
	for name, v := range vars {
		value, err := fromHost(v, 0)
		if err != nil {
			return "", fmt.Errorf("template variable %q: %w", name, err)
		}
		root.vars[name] = value
	}
	in := &interp{limits: limits.withDefaults(), now: now}
	in.fuel = in.limits.Steps
	if _, err := in.execBody(t.body, root); err != nil {
		return "", err
	}
	return string(in.out), nil
}
