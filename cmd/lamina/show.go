package main

import (
	"fmt"
	"time"

	"lamina/node/api"
)

type showCmd struct {
	Name string `arg:"" help:"Name of the model."`
	JSON bool   `help:"Print JSON for scripts." name:"json"`
	clientFlags
}

// Run shows one model with its replicas and parts.
func (c *showCmd) Run(a *app) error {
	ctx, cancel := interruptible()
	defer cancel()
	cl, err := c.client()
	if err != nil {
		return err
	}
	m, err := cl.Model(ctx, c.Name)
	if err != nil {
		return err
	}
	if c.JSON {
		return a.json(api.ModelsReply{Models: []api.Model{m}})
	}
	t := newTable(a.out)
	t.row("name", m.Name)
	t.row("digest", m.Digest)
	t.row("architecture", m.Arch)
	t.row("layers", m.Layers)
	t.row("hidden", m.Hidden)
	t.row("vocabulary", m.Vocab)
	t.row("context", m.Context)
	t.row("size", fmt.Sprintf("%s in %d parts", size(m.Bytes), len(m.Blobs)))
	t.row("added", time.Unix(m.Created, 0).Format(time.DateTime))
	if m.Problem != "" {
		t.row("problem", m.Problem)
	}
	for _, r := range m.Replicas {
		text := r.Phase + " " + hops(r)
		if r.Reason != "" {
			text += " (" + r.Reason + ")"
		}
		t.row(fmt.Sprintf("placement %d", r.Epoch), text)
	}
	for _, b := range m.Blobs {
		t.row(b.Name, size(b.Size)+"  "+b.Digest)
	}
	return t.flush()
}
