package main

import "fmt"

type removeCmd struct {
	Node string `arg:"" help:"Name of the node."`
	clientFlags
}

// Run takes a node out of the cluster.
func (c *removeCmd) Run(a *app) error {
	ctx, cancel := interruptible()
	defer cancel()
	cl, err := c.client()
	if err != nil {
		return err
	}
	if err := cl.RemoveNode(ctx, c.Node); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "removed node %s\n", c.Node)
	return nil
}
