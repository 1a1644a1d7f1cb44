package main

import (
	"fmt"
	"time"
)

type tokenCmd struct {
	Create tokenCreateCmd `cmd:"" help:"Print a join string: good for one node."`
}

type tokenCreateCmd struct {
	TTL time.Duration `help:"How long it may be used." name:"ttl" default:"1h" placeholder:"TIME"`
	clientFlags
}

// Run prints a join string and nothing else.
func (c *tokenCreateCmd) Run(a *app) error {
	ctx, cancel := interruptible()
	defer cancel()
	if c.TTL < time.Second {
		return fmt.Errorf("--ttl is %v; it must be a second or more", c.TTL)
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	t, err := cl.CreateToken(ctx, int64(c.TTL/time.Second))
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out, t.Join)
	return nil
}
