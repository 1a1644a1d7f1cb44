package main

import (
	"context"

	"lamina/node"
)

type joinCmd struct {
	JoinString string `arg:"" help:"HOST:PORT/TOKEN@sha256:PIN, as lamina up and lamina token create print it. Later starts of the node do not use it again."`
	nodeFlags
}

// Run starts a node that joins.
func (c *joinCmd) Run(a *app) error {
	return serve(a, c.config(a, c.JoinString), func(context.Context, *node.Node) {})
}
