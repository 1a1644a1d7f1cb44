package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lamina/node/api"
	"lamina/node/ingest"
)

type addCmd struct {
	Name     string `arg:"" help:"Name that the model will have in the cluster."`
	File     string `arg:"" help:"GGUF file."`
	Stages   int    `help:"Cut the model over so many nodes; 0 lets the cluster decide." default:"0" placeholder:"N"`
	Replicas int    `help:"Hold the model so many times; 0 lets the cluster decide." default:"0" placeholder:"N"`
	clientFlags
}

// Run cuts the file here, sends the node what it lacks, and waits until the cluster serves the model.
func (c *addCmd) Run(a *app) error {
	ctx, cancel := interruptible()
	defer cancel()
	cl, err := c.client()
	if err != nil {
		return err
	}
	known, err := c.known(ctx, a, cl)
	if err != nil {
		return err
	}
	if known != nil { // only its wishes are new; the parts should be there
		added, err := cl.AddModel(ctx, known.Manifest(c.Name, c.Stages, c.Replicas))
		if code(err) != "missing_blob" {
			return c.finish(ctx, a, cl, added, err)
		}
	}
	bar := newBar(a.err, "sending "+c.Name)
	sent, err := ingest.Send(ctx, c.File, cl, func(p ingest.Progress) { bar.set(p.Part, p.Done, p.Total) })
	bar.close()
	if err != nil {
		return err
	}
	added, err := cl.AddModel(ctx, sent.Manifest(c.Name, c.Stages, c.Replicas))
	if err != nil {
		sent.Undo(ctx)
	}
	return c.finish(ctx, a, cl, added, err)
}

// finish waits for a model that was added.
func (c *addCmd) finish(ctx context.Context, a *app, cl *api.Client, m api.Model, err error) error {
	if err != nil {
		return err
	}
	return c.await(ctx, a, cl, m)
}

// known finds out, before anything is sent, whether the name is taken: nil if it is free, the file's manifest if it
// stands for the same model, else an error.
func (c *addCmd) known(ctx context.Context, a *app, cl *api.Client) (*ingest.Result, error) {
	there, err := cl.Model(ctx, c.Name)
	if code(err) == "model_not_found" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	bar := newBar(a.err, "comparing "+c.Name)
	file, err := ingest.Send(ctx, c.File, nil, func(p ingest.Progress) { bar.set(p.Part, p.Done, p.Total) })
	bar.close()
	if err != nil {
		return nil, err
	}
	if file.Model.Digest != there.Digest {
		return nil, fmt.Errorf("the cluster has another model under the name %s; choose a different name, or remove it first: lamina rm %s", c.Name, c.Name)
	}
	return file, nil
}

// code is the code of a node's error, "" for any other.
func code(err error) string {
	var e *api.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// How often add looks whether the model serves, and how long it waits while nothing changes.
const (
	lookEvery = 200 * time.Millisecond
	patience  = 2 * time.Minute
)

// await waits until a replica of the model is ready, showing what happens meanwhile.
func (c *addCmd) await(ctx context.Context, a *app, cl *api.Client, m api.Model) error {
	line := newLine(a.err)
	defer line.close()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	state, since := "", time.Now()
	for {
		if done := served(m, c.Replicas); done {
			line.close()
			for _, r := range m.Replicas {
				if r.Phase == "ready" {
					fmt.Fprintf(a.out, "%s is ready: %s\n", m.Name, hops(r))
				}
			}
			return nil
		}
		if now := placing(m); now != state {
			state, since = now, time.Now()
			line.set(now)
		} else if time.Since(since) > patience {
			return fmt.Errorf("%s is in the cluster, but not served yet (%s); lamina ps shows how it goes on, lamina rm %s takes it back", m.Name, state, m.Name)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		var err error
		if m, err = cl.Model(ctx, c.Name); err != nil {
			return err
		}
	}
}

// served says whether as many replicas are ready as were asked for, one at least.
func served(m api.Model, wanted int) bool {
	ready := 0
	for _, r := range m.Replicas {
		if r.Phase == "ready" {
			ready++
		}
	}
	return ready >= max(wanted, 1)
}

// placing says in a line what the replicas of a model are about.
func placing(m api.Model) string {
	out := "placing " + m.Name
	for _, r := range m.Replicas {
		switch r.Phase {
		case "planned", "loading", "ready":
			out += ": " + r.Phase + " " + hops(r)
		case "gone":
			if r.Reason != "" {
				out += ": a placement failed (" + r.Reason + ")"
			}
		}
	}
	return out
}
