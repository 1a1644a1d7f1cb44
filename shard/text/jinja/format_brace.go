package jinja

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// braceFormat is str.format with fields {}, {0} and {name} and plain specs; attributes and indices
// of fields are refused.
func (in *interp) braceFormat(s string, a callArgs) (any, error) {
	var out []byte
	next := 0
	for s != "" {
		i := strings.IndexAny(s, "{}")
		if i < 0 {
			i = len(s)
		}
		if err := in.made(len(out)+i, 1+i/32); err != nil {
			return nil, err
		}
		out = append(out, s[:i]...)
		if s = s[i:]; s == "" {
			break
		}
		if len(s) > 1 && s[1] == s[0] {
			out = append(out, s[0])
			s = s[2:]
			continue
		}
		end := strings.IndexByte(s, '}')
		if s[0] == '}' || end < 0 {
			return nil, evalErrorf("format: a single '%c'", s[0])
		}
		text, err := in.braceField(s[1:end], a, &next)
		if err != nil {
			return nil, err
		}
		if err := in.made(len(out)+len(text), 1+len(text)/32); err != nil {
			return nil, err
		}
		out = append(out, text...)
		s = s[end+1:]
	}
	return string(out), nil
}

// braceField formats one field.
func (in *interp) braceField(field string, a callArgs, next *int) (string, error) {
	name, format, _ := strings.Cut(field, ":")
	name, conversion, _ := strings.Cut(name, "!")
	v, err := braceArg(name, a, next)
	if err != nil {
		return "", err
	}
	sp, err := braceSpec(format)
	if err != nil {
		return "", err
	}
	switch conversion {
	case "":
	case "s", "r":
		sp.verb = conversion[0]
	default:
		return "", evalErrorf("format: conversion '!%s' is not available", conversion)
	}
	_, isBool := v.(bool)
	_, isFloat := v.(float64)
	_, isInt := toInt(v)
	switch {
	case sp.verb != 0:
	case isFloat && sp.precision >= 0:
		sp.verb = 'g'
	case isInt && !isBool:
		sp.verb = 'd'
	default:
		sp.verb = 's'
		if isFloat && sp.align == 0 {
			sp.align = '>'
		}
	}
	return in.formatValue(sp, v)
}

func braceArg(name string, a callArgs, next *int) (any, error) {
	index := *next
	switch n, err := strconv.ParseUint(name, 10, 16); {
	case name == "":
		*next++
	case err == nil:
		index = int(n)
	default:
		for i, candidate := range a.names {
			if candidate == name {
				return a.named[i], nil
			}
		}
		return nil, evalErrorf("format: there is no argument '%s'", name)
	}
	if index >= len(a.pos) {
		return nil, evalErrorf("format: there is no argument %d", index)
	}
	return a.pos[index], nil
}

// braceSpec reads [[fill]align][sign][#][0][width][,][.precision][type].
func braceSpec(s string) (spec, error) {
	sp := spec{fill: " ", precision: -1}
	_, size := utf8.DecodeRuneInString(s)
	switch {
	case len(s) > size && size > 0 && strings.IndexByte("<>^", s[size]) >= 0:
		sp.fill, sp.align = s[:size], s[size]
		s = s[size+1:]
	case s != "" && strings.IndexByte("<>^", s[0]) >= 0:
		sp.align = s[0]
		s = s[1:]
	}
	for ; s != "" && strings.IndexByte("+ -#0", s[0]) >= 0; s = s[1:] {
		switch s[0] {
		case '#':
			sp.alt = true
		case '0':
			sp.zero = true
		case '-':
		default:
			sp.sign = s[0]
		}
	}
	n, err := sp.sizes(s, 0)
	if err != nil {
		return sp, err
	}
	switch s = s[n:]; {
	case s == "":
		return sp, nil
	case len(s) == 1 && strings.Contains("sdfFeEgGxXo", s):
		sp.verb = s[0]
		return sp, nil
	}
	return sp, evalErrorf("format: '%s' is not available", s)
}
