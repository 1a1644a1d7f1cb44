package main

import (
	"time"

	"lamina/node/api"
)

type nodesCmd struct {
	JSON bool `help:"Print JSON for scripts." name:"json"`
	clientFlags
}

// Run lists the nodes.
func (c *nodesCmd) Run(a *app) error {
	ctx, cancel := interruptible()
	defer cancel()
	cl, err := c.client()
	if err != nil {
		return err
	}
	nodes, err := cl.Nodes(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return a.json(api.NodesReply{Nodes: nodes})
	}
	t := newTable(a.out, "NODE", "ROLE", "STATE", "PEERS", "API", "MEMORY FREE", "OF", "LOAD", "VERSION", "LAST CONTACT")
	for _, n := range nodes {
		role, state, contact := n.Role, "alive", "now"
		if n.Leader {
			role = "leader"
		}
		switch {
		case !n.Alive:
			state = "gone"
		case n.Draining:
			state = "draining"
		}
		if !n.Self && n.LastContactMS > 0 {
			contact = ago(time.Duration(n.LastContactMS) * time.Millisecond)
		}
		t.row(n.Name, role, state, n.Peer, n.HTTP, size(n.MemoryFree), size(n.MemoryTotal), n.Load, n.Version, contact)
	}
	return t.flush()
}
