package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"lamina/node"
)

// inviteTime bounds how long a node tries to make a join string at its start.
const inviteTime = 5 * time.Second

type upCmd struct {
	nodeFlags
}

// Run starts a node and tells how others join it.
func (c *upCmd) Run(a *app) error {
	cfg := c.config(a, "")
	return serve(a, cfg, func(ctx context.Context, n *node.Node) {
		ctx, cancel := context.WithTimeout(ctx, inviteTime)
		defer cancel()
		join, err := n.JoinString(ctx)
		if err != nil {
			fmt.Fprintf(a.err, "no join string now (%v); lamina token create makes one\n", err)
			return
		}
		fmt.Fprintf(a.out, "Another machine joins with (once, within an hour; lamina token create makes more):\n  lamina join '%s'\n", join)
		if host, _, err := net.SplitHostPort(cfg.Peer); err == nil && net.ParseIP(host).IsLoopback() {
			fmt.Fprintf(a.out, "The peer address is %s, so only this machine can join: give --peer an address that the others reach.\n", cfg.Peer)
		}
	})
}
