package main

import (
	"context"
	"fmt"
	"time"

	"lamina/node/api"
)

type drainCmd struct {
	Node    string        `arg:"" help:"Name of the node."`
	Off     bool          `help:"Take it back: the node gets layers again."`
	NoWait  bool          `help:"Do not wait until the node serves nothing any more." name:"no-wait"`
	Timeout time.Duration `help:"How long to wait." default:"10m" placeholder:"TIME"`
	clientFlags
}

// drainPoll is how often a waiting drain looks.
const drainPoll = 500 * time.Millisecond

// Run drains a node and waits until others serve what it held.
func (c *drainCmd) Run(a *app) error {
	ctx, cancel := interruptible()
	defer cancel()
	ctx, stop := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("%s still serves layers after %v; it goes on draining (lamina drain --off %s takes that back)", c.Node, c.Timeout, c.Node))
	defer stop()
	cl, err := c.client()
	if err != nil {
		return err
	}
	d, err := cl.DrainNode(ctx, c.Node, api.DrainRequest{Off: c.Off})
	if err != nil {
		return err
	}
	if c.Off {
		fmt.Fprintf(a.out, "%s takes layers again\n", c.Node)
		return nil
	}
	for said := ""; len(d.Spans) > 0; {
		if text := drainText(d); text != said {
			said = text
			fmt.Fprint(a.err, text)
		}
		if c.NoWait {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(drainPoll):
		}
		if d, err = cl.Drained(ctx, c.Node); err != nil {
			return err
		}
		if !d.Draining {
			return fmt.Errorf("%s is not draining any more: somebody took it back", c.Node)
		}
	}
	fmt.Fprintf(a.out, "%s serves nothing; it can be stopped\n", c.Node)
	return nil
}

// drainText is what a node still serves, a line for each span.
func drainText(d api.DrainReply) (out string) {
	for _, s := range d.Spans {
		out += fmt.Sprintf("still serves layers %d:%d of %s (%s)", s.First, s.End, s.Model, s.Phase)
		if s.Problem != "" {
			out += ": " + s.Problem
		}
		out += "\n"
	}
	return out
}
