package main

import "fmt"

type rmCmd struct {
	Name string `arg:"" help:"Name of the model."`
	clientFlags
}

// Run takes a model out of the cluster.
func (c *rmCmd) Run(a *app) error {
	ctx, cancel := interruptible()
	defer cancel()
	cl, err := c.client()
	if err != nil {
		return err
	}
	if err := cl.RemoveModel(ctx, c.Name); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "removed %s\n", c.Name)
	return nil
}
