package text

import (
	"errors"
	"fmt"
	"time"

	"lamina/shard/gguf"
	"lamina/shard/text/jinja"
)

// ErrTemplate: the chat template is broken, refuses the messages, or goes beyond its limits. It wraps
// one of the errors of package jinja too, which tell these apart; the text names the template's line.
var ErrTemplate = errors.New("chat template")

// Message is one turn of a chat.
type Message struct {
	Role    string
	Content string
	Name    string // left out if empty
	// Fields are further entries of the message, such as tool_calls, tool_call_id or
	// reasoning_content, in the order in which the template shall see them. One named content takes
	// the place of Content, which may then be nil or a list of parts.
	Fields []Field
}

// Field is a named value: see jinja.Template.Render for what it may be.
type Field struct {
	Name  string
	Value any
}

// TemplateContext is what a template is rendered over, under the names that Hugging Face's transformers
// use: messages, tools, documents, add_generation_prompt, bos_token and eos_token.
type TemplateContext struct {
	Messages []Message
	// Tools and Documents are lists in JSON's shape, best as json.RawMessage, which keeps the order of
	// keys; nil for none.
	Tools, Documents    any
	AddGenerationPrompt bool
	BOS, EOS            string
	Now                 time.Time // for strftime_now
	// Extra holds further variables, such as enable_thinking. None of the names above may be among them.
	Extra map[string]any
}

// Template is a parsed chat template; safe for concurrent use.
type Template struct {
	t      *jinja.Template
	limits jinja.Limits
}

// NewTemplate parses a chat template. Errors wrap ErrTemplate.
func NewTemplate(src string) (*Template, error) {
	t, err := jinja.Parse(src)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTemplate, err)
	}
	return &Template{t: t, limits: jinja.DefaultLimits()}, nil
}

// ModelTemplate gives the chat template of a model's metadata; ok is false if it has none.
func ModelTemplate(meta *gguf.File) (src string, ok bool) {
	src, ok = meta.KV.String("tokenizer.chat_template")
	return src, ok && src != ""
}

// Render writes the prompt for a chat. Errors wrap ErrTemplate.
func (t *Template) Render(c TemplateContext) (string, error) {
	vars, err := c.vars()
	if err != nil {
		return "", err
	}
	out, err := t.t.Render(vars, c.Now, t.limits)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrTemplate, err)
	}
	return out, nil
}

// vars puts the context under the names that templates use.
func (c TemplateContext) vars() (map[string]any, error) {
	messages := make([]any, len(c.Messages))
	for i, m := range c.Messages {
		messages[i] = m.dict()
	}
	vars := map[string]any{
		"messages":              messages,
		"tools":                 c.Tools,
		"documents":             c.Documents,
		"add_generation_prompt": c.AddGenerationPrompt,
		"bos_token":             c.BOS,
		"eos_token":             c.EOS,
	}
	for name, v := range c.Extra {
		if _, taken := vars[name]; taken || jinja.Reserved(name) {
			return nil, fmt.Errorf("%w: the variable %q cannot be set", ErrTemplate, name)
		}
		vars[name] = v
	}
	return vars, nil
}

// dict is the message as the template sees it.
func (m Message) dict() *jinja.Dict {
	d := jinja.NewDict()
	d.Set("role", m.Role)
	d.Set("content", m.Content)
	if m.Name != "" {
		d.Set("name", m.Name)
	}
	for _, f := range m.Fields {
		d.Set(f.Name, f.Value)
	}
	return d
}
