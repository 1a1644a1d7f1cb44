package main

import (
	"fmt"

	"lamina/node/api"
)

type psCmd struct {
	JSON bool `help:"Print JSON for scripts." name:"json"`
	clientFlags
}

// Run lists the models, a line for each replica.
func (c *psCmd) Run(a *app) error {
	ctx, cancel := interruptible()
	defer cancel()
	cl, err := c.client()
	if err != nil {
		return err
	}
	models, err := cl.Models(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return a.json(api.ModelsReply{Models: models})
	}
	t := newTable(a.out, "MODEL", "SIZE", "LAYERS", "CONTEXT", "PHASE", "WHERE", "STANDBY")
	for _, m := range models {
		if len(m.Replicas) == 0 {
			t.row(m.Name, size(m.Bytes), m.Layers, m.Context, "waiting", "no placement yet", "")
		}
		for _, r := range m.Replicas {
			t.row(m.Name, size(m.Bytes), m.Layers, m.Context, r.Phase, hops(r), standbys(r))
		}
	}
	if len(models) == 0 {
		fmt.Fprintln(a.err, "No models yet; lamina add NAME FILE adds one.")
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, m := range models {
		if m.Problem != "" {
			fmt.Fprintf(a.err, "%s: %s\n", m.Name, m.Problem)
		}
	}
	return nil
}
