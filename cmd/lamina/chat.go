package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"

	"golang.org/x/term"

	"lamina/node/api"
)

// chat is a conversation at the terminal.
type chat struct {
	a       *app
	c       *runCmd
	k       asker
	in      lineReader
	options api.Options
	past    []api.Message
}

// lineReader reads what a person types; io.EOF is the end.
type lineReader interface {
	line(prompt string) (string, error)
}

const chatHelp = `  """            begin and end a text of several lines
  /clear         forget the conversation
  /set NAME VALUE    temperature, top_p, top_k, min_p, seed, max_tokens, system; without a value: back to the default
  /bye           leave (or Ctrl-D); Ctrl-C stops an answer`

func newChat(a *app, c *runCmd, k asker) *chat {
	h := &chat{a: a, c: c, k: k, options: c.options(), in: &typist{a: a}}
	h.clear()
	return h
}

// clear begins the conversation anew.
func (h *chat) clear() {
	h.past = nil
	if h.c.System != "" {
		h.past = []api.Message{{Role: "system", Content: h.c.System}}
	}
}

// loop talks until the person leaves.
func (h *chat) loop() error {
	fmt.Fprintf(h.a.err, "Chat with %s; /? shows the commands.\n", h.k.name())
	for {
		text, err := h.read()
		if errors.Is(err, io.EOF) {
			fmt.Fprintln(h.a.out)
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case text == "":
		case text == "/bye", text == "/exit":
			return nil
		case strings.HasPrefix(text, "/"):
			fmt.Fprintln(h.a.err, h.command(text))
		default:
			if err := h.turn(text); err != nil {
				return err
			}
		}
	}
}

// read reads one text: a line, or the lines between two """.
func (h *chat) read() (string, error) {
	text, err := h.in.line(">>> ")
	rest, many := strings.CutPrefix(strings.TrimSpace(text), `"""`)
	if err != nil || !many {
		return strings.TrimSpace(text), err
	}
	for {
		if before, ok := strings.CutSuffix(strings.TrimRight(rest, " \t"), `"""`); ok {
			return strings.TrimSpace(before), nil
		}
		next, err := h.in.line("... ")
		if err != nil {
			return "", err
		}
		rest += "\n" + next
	}
}

// command does what a line that begins with a slash says, and returns what to tell.
func (h *chat) command(text string) string {
	words := strings.Fields(text)
	switch {
	case words[0] == "/clear":
		h.clear()
		return "The conversation is forgotten."
	case words[0] == "/set" && len(words) >= 2:
		_, value, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(text, "/set")), words[1])
		if err := h.set(words[1], strings.TrimSpace(value)); err != nil {
			return err.Error()
		}
		return "Set."
	}
	return chatHelp
}

// set changes a setting for the answers to come; an empty value takes it back.
func (h *chat) set(name, value string) error {
	float := func(to **float32) error {
		return parseInto(to, value, func(s string) (float32, error) { f, err := strconv.ParseFloat(s, 32); return float32(f), err })
	}
	o := &h.options
	var err error
	switch name {
	case "temperature":
		err = float(&o.Temperature)
	case "top_p":
		err = float(&o.TopP)
	case "min_p":
		err = float(&o.MinP)
	case "top_k":
		err = parseInto(&o.TopK, value, strconv.Atoi)
	case "seed":
		err = parseInto(&o.Seed, value, func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) })
	case "max_tokens":
		var n *int
		if err = parseInto(&n, value, strconv.Atoi); err == nil {
			o.MaxTokens = 0
			if n != nil {
				o.MaxTokens = *n
			}
		}
	case "system":
		h.c.System = value
		h.clear()
	default:
		return fmt.Errorf("there is no setting %q", name)
	}
	if err != nil {
		return fmt.Errorf("%s: %q is no number that fits", name, value)
	}
	return nil
}

// parseInto sets what to points at to a parsed value, or to nil for an empty one.
func parseInto[T any](to **T, value string, parse func(string) (T, error)) error {
	if value == "" {
		*to = nil
		return nil
	}
	v, err := parse(value)
	if err == nil {
		*to = &v
	}
	return err
}

// turn asks one question. Ctrl-C ends the answer; what was said stays in the conversation. A refusal is shown and the
// question forgotten.
func (h *chat) turn(text string) error {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	r := api.GenerateRequest{Model: h.k.name(), Stream: true, Options: h.options}
	r.Messages = append(append(r.Messages, h.past...), api.Message{Role: "user", Content: text})
	end, err := answer(ctx, h.a.out, h.k, r)
	fmt.Fprintln(h.a.out)
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(h.a.err, "lamina:", explain(err))
		var e *api.Error
		if errors.As(err, &e) && e.Code == "context_length_exceeded" {
			fmt.Fprintln(h.a.err, "The conversation has become too long; /clear begins anew.")
		}
		return nil
	}
	h.past = append(r.Messages, api.Message{Role: "assistant", Content: end.reply.Text})
	if h.c.Verbose && err == nil {
		fmt.Fprintln(h.a.err, end)
	}
	return nil
}

// typist reads lines at a terminal, with editing and a history of earlier lines.
type typist struct {
	a *app
	t *term.Terminal
}

// line puts the terminal into raw mode for the time of one line, so that Ctrl-C is a signal while an answer runs.
func (t *typist) line(prompt string) (string, error) {
	f, ok := terminal(t.a.in)
	if !ok {
		return "", io.EOF
	}
	old, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return "", fmt.Errorf("terminal: %w", err)
	}
	defer func() { _ = term.Restore(int(f.Fd()), old) }() // nothing better to do
	if t.t == nil {
		t.t = term.NewTerminal(struct {
			io.Reader
			io.Writer
		}{clearsLine{f}, t.a.out}, "")
	}
	if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 { // some terminals have no size
		_ = t.t.SetSize(w, h) // a wrong width breaks lines at the wrong place, no more
	}
	t.t.SetPrompt(prompt)
	text, err := t.t.ReadLine()
	if errors.Is(err, term.ErrPasteIndicator) {
		err = nil
	}
	return text, err
}

// clearsLine turns Ctrl-C, which term takes for the end, into Ctrl-U: it drops the line that is being typed.
type clearsLine struct{ io.Reader }

// Read implements io.Reader.
func (c clearsLine) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	for i, key := range b[:n] {
		if key == 3 {
			b[i] = 21
		}
	}
	return n, err
}
