package main

import (
	"fmt"
	"time"

	"lamina/node/api"
)

type keyCmd struct {
	Create keyCreateCmd `cmd:"" help:"Make a key and print it, this once."`
	Ls     keyLsCmd     `cmd:"" help:"List the keys."`
	Rm     keyRmCmd     `cmd:"" help:"Revoke a key."`
}

type keyCreateCmd struct {
	Label string `arg:"" optional:"" help:"Whose it is; for people."`
	Role  string `help:"What it may do: user asks models, admin does everything." enum:"user,admin" default:"user"`
	clientFlags
}

// Run prints a new key and nothing else.
func (c *keyCreateCmd) Run(a *app) error {
	ctx, cancel := interruptible()
	defer cancel()
	cl, err := c.client()
	if err != nil {
		return err
	}
	k, err := cl.CreateKey(ctx, api.KeyRequest{Name: c.Label, Role: c.Role})
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out, k.Secret)
	return nil
}

type keyLsCmd struct {
	JSON bool `help:"Print JSON for scripts." name:"json"`
	clientFlags
}

// Run lists the keys.
func (c *keyLsCmd) Run(a *app) error {
	ctx, cancel := interruptible()
	defer cancel()
	cl, err := c.client()
	if err != nil {
		return err
	}
	keys, err := cl.Keys(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return a.json(api.KeysReply{Keys: keys})
	}
	t := newTable(a.out, "KEY", "ROLE", "LABEL", "CREATED")
	for _, k := range keys {
		t.row(k.ID, k.Role, k.Name, time.Unix(k.Created, 0).Format(time.DateTime))
	}
	return t.flush()
}

type keyRmCmd struct {
	ID string `arg:"" help:"The key's id, as lamina key ls shows it."`
	clientFlags
}

// Run revokes a key.
func (c *keyRmCmd) Run(a *app) error {
	ctx, cancel := interruptible()
	defer cancel()
	cl, err := c.client()
	if err != nil {
		return err
	}
	if err := cl.RemoveKey(ctx, c.ID); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "revoked %s\n", c.ID)
	return nil
}
