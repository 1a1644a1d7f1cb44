package text_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"lamina/shard/gguf"
	"lamina/shard/text"
	"lamina/shard/text/jinja"
)

// context makes a TemplateContext of a chat of jinja/testdata/contexts.json.
func context(t *testing.T, raw json.RawMessage) text.TemplateContext {
	t.Helper()
	v, err := jinja.DecodeJSON(raw)
	if err != nil {
		t.Fatal(err)
	}
	c := text.TemplateContext{Extra: map[string]any{}}
	var names map[string]json.RawMessage
	if err := json.Unmarshal(raw, &names); err != nil {
		t.Fatal(err)
	}
	for name := range names {
		value, _ := v.(*jinja.Dict).Get(name)
		switch name {
		case "messages":
			for _, m := range value.([]any) {
				c.Messages = append(c.Messages, message(m.(*jinja.Dict)))
			}
		case "tools":
			c.Tools = names[name]
		case "documents":
			c.Documents = names[name]
		case "add_generation_prompt":
			c.AddGenerationPrompt, _ = value.(bool)
		case "bos_token":
			c.BOS, _ = value.(string)
		case "eos_token":
			c.EOS, _ = value.(string)
		default:
			c.Extra[name] = names[name]
		}
	}
	return c
}

func message(d *jinja.Dict) text.Message {
	var out text.Message
	role, _ := d.Get("role")
	out.Role, _ = role.(string)
	content, _ := d.Get("content")
	words, isText := content.(string)
	out.Content = words
	if !isText {
		out.Fields = append(out.Fields, text.Field{Name: "content", Value: content})
	}
	for _, name := range []string{"name", "tool_calls", "tool_call_id", "reasoning_content"} {
		if v, ok := d.Get(name); ok {
			out.Fields = append(out.Fields, text.Field{Name: name, Value: v})
		}
	}
	return out
}

// TestModelTemplates compares the templates inside the model files with Python's jinja2.
func TestModelTemplates(t *testing.T) {
	var g struct {
		Now   string
		Cases []struct {
			File, Context string
			Text, Error   *string
		}
	}
	readJSON(t, "golden.templates.json", &g)
	var contexts map[string]json.RawMessage
	readJSON(t, "../jinja/testdata/contexts.json", &contexts)
	now, err := time.Parse("2006-01-02T15:04:05.999999", g.Now)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range g.Cases {
		t.Run(c.File+"/"+c.Context, func(t *testing.T) {
			src, ok := text.ModelTemplate(model(t, c.File))
			if !ok {
				t.Fatal("the model has no template")
			}
			tmpl, err := text.NewTemplate(src)
			if err != nil {
				t.Fatal(err)
			}
			ctx := context(t, contexts[c.Context])
			ctx.Now = now
			got, err := tmpl.Render(ctx)
			switch {
			case (err == nil) != (c.Error == nil):
				t.Errorf("error %v, jinja2 gives text %v, error %v", err, c.Text, c.Error)
			case err == nil && got != *c.Text:
				t.Errorf("gave   %q\njinja2 %q", got, *c.Text)
			}
		})
	}
}

func TestTemplateErrors(t *testing.T) {
	if _, err := text.NewTemplate("a\n{% if %}"); !errors.Is(err, text.ErrTemplate) || !errors.Is(err, jinja.ErrSyntax) || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a broken template: %v", err)
	}
	tmpl, err := text.NewTemplate("\n{{ raise_exception('no ' ~ messages[0].role) }}")
	if err != nil {
		t.Fatal(err)
	}
	chat := text.TemplateContext{Messages: []text.Message{{Role: "wizard"}}}
	if _, err := tmpl.Render(chat); !errors.Is(err, text.ErrTemplate) || !errors.Is(err, jinja.ErrRaised) || !strings.Contains(err.Error(), "no wizard") {
		t.Errorf("a refused chat: %v", err)
	}
	for _, name := range []string{"messages", "tools", "bos_token", "raise_exception", "namespace"} {
		chat.Extra = map[string]any{name: 1}
		if _, err := tmpl.Render(chat); !errors.Is(err, text.ErrTemplate) || errors.Is(err, jinja.ErrRaised) {
			t.Errorf("extra variable %s: %v", name, err)
		}
	}
}

func TestTemplateSeesTheChat(t *testing.T) {
	tmpl, err := text.NewTemplate("{{ messages|tojson }} {{ tools|tojson }} {{ documents }} {{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}{{ deep }} {{ strftime_now('%Y') }}")
	if err != nil {
		t.Fatal(err)
	}
	got, err := tmpl.Render(text.TemplateContext{
		Messages: []text.Message{
			{Role: "user", Content: "hi", Name: "Ann"},
			{Role: "assistant", Fields: []text.Field{{Name: "content"}, {Name: "tool_calls", Value: json.RawMessage(`[{"z":1,"a":2}]`)}}},
		},
		Tools:               json.RawMessage(`[{"z":{"y":1.0},"a":null}]`),
		AddGenerationPrompt: true, BOS: "<s>", EOS: "</s>",
		Now:   time.Date(2031, 1, 2, 3, 4, 5, 0, time.UTC),
		Extra: map[string]any{"deep": []string{"x"}},
	})
	const want = `[{"role": "user", "content": "hi", "name": "Ann"}, {"role": "assistant", "content": null, "tool_calls": [{"z": 1, "a": 2}]}]` +
		` [{"z": {"y": 1.0}, "a": null}] None <s></s>True['x'] 2031`
	if err != nil || got != want {
		t.Errorf("gave %v\n%s\nwant\n%s", err, got, want)
	}
}

func TestModelTemplateAbsent(t *testing.T) {
	if _, ok := text.ModelTemplate(&gguf.File{}); ok {
		t.Error("a file without a template has one")
	}
}
