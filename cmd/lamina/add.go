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
	if err := c.checkName(); err != nil {
		return err
	}
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

// checkName refuses, before anything is cut or sent, a name that the cluster or lamina run would not take.
func (c *addCmd) checkName() error {
	if err := ingest.CheckName(c.Name); err != nil {
		return err
	}
	if isFile(c.Name) {
		return fmt.Errorf("the name %s looks like a file, which is what lamina run would take it for; leave out the .gguf or the path", c.Name)
	}
	return nil
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
	// hopeless is how long the cluster must say that it has no place for what was asked.
	hopeless = 5 * time.Second
)

// await waits until a replica of the model is ready, showing what happens meanwhile.
func (c *addCmd) await(ctx context.Context, a *app, cl *api.Client, m api.Model) error {
	line := newLine(a.err)
	defer line.close()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	state, since := "", time.Now()
	for {
		if served(m, c.Stages, c.Replicas) {
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
		} else if wait := time.Since(since); wait > patience || m.Problem != "" && wait > hopeless {
			return c.unserved(m, state)
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

// served says whether as many replicas are ready as were asked for, one at least, in as many stages as were asked for.
func served(m api.Model, stages, replicas int) bool {
	ready := 0
	for _, r := range m.Replicas {
		if r.Phase == "ready" && (stages == 0 || stages == len(r.Hops)) {
			ready++
		}
	}
	return ready >= max(replicas, 1)
}

// unserved says how far a model has come that is not served as it was asked for.
func (c *addCmd) unserved(m api.Model, state string) error {
	how := "is in the cluster, but not served yet"
	if m.Ready {
		how = "is served, but not yet as asked"
	}
	why := state
	if m.Problem != "" {
		why = m.Problem
	}
	return fmt.Errorf("%s %s (%s); lamina ps shows how it goes on, lamina rm %s takes it back", m.Name, how, why, m.Name)
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
