package jinja

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// golden is what testdata/golden.py wrote: renderings of Python's jinja2.
type golden struct {
	Now   string
	Cases []struct {
		Name, Source, File, Context string
		Text, Error                 *string
	}
}

func readJSON(t testing.TB, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

// TestGolden compares every rendering with Python's jinja2; where Python fails, so must this engine.
func TestGolden(t *testing.T) {
	var g golden
	var contexts map[string]map[string]json.RawMessage
	readJSON(t, "golden.json", &g)
	readJSON(t, "contexts.json", &contexts)
	now, err := time.Parse("2006-01-02T15:04:05.999999", g.Now)
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Cases) < 300 {
		t.Fatalf("only %d cases", len(g.Cases))
	}
	for _, c := range g.Cases {
		t.Run(c.Name, func(t *testing.T) {
			source := c.Source
			if c.File != "" {
				data, err := os.ReadFile(filepath.Join("testdata", "templates", c.File))
				if err != nil {
					t.Fatal(err)
				}
				source = string(data)
			}
			vars := map[string]any{}
			for name, v := range contexts[c.Context] {
				vars[name] = v
			}
			got, err := render(source, vars, now)
			switch {
			case c.Error != nil && err == nil:
				t.Errorf("gave %q, jinja2 fails with %s", got, *c.Error)
			case c.Error == nil && err != nil:
				t.Errorf("failed: %v\njinja2 gives %q", err, *c.Text)
			case c.Error == nil && got != *c.Text:
				t.Errorf("gave   %q\njinja2 %q", got, *c.Text)
			}
		})
	}
}

func render(source string, vars map[string]any, now time.Time) (string, error) {
	tmpl, err := Parse(source)
	if err != nil {
		return "", err
	}
	return tmpl.Render(vars, now, Limits{})
}
