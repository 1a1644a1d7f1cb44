package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"lamina/node"
)

type recoverCmd struct {
	Data string `help:"Data folder of the node that goes on; it must be stopped (default: ${data})." placeholder:"DIR"`
	Peer string `help:"Address at which the other nodes reach it (default: ${default})." default:"127.0.0.1:7946" placeholder:"HOST:PORT"`
	Yes  bool   `help:"Do it."`
}

const recoverText = `This is for a cluster that has lost most of its voters for good. The node in %s would go on as the only
voter, with what it knows; changes that only the lost nodes knew of are lost. If the others can be started
again, start them instead. Lost nodes that come back later must join anew, with an empty data folder: with their old one, two of
them could form the old cluster again beside this one.
`

// Run recovers a cluster from one node.
func (c *recoverCmd) Run(a *app) error {
	cfg := node.Default()
	if c.Data != "" {
		cfg.Data = c.Data
	}
	cfg.Peer = c.Peer
	cfg.Log = slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if !c.Yes {
		fmt.Fprintf(a.err, recoverText, cfg.Data)
		return errors.New("nothing was changed; --yes does it")
	}
	s, err := node.Recover(cfg)
	if err != nil {
		return err
	}
	var names []string
	for _, m := range s.Members {
		names = append(names, m.ID)
	}
	fmt.Fprintf(a.out, "recovered up to change %d: nodes %s; %d models, %d keys\nStart the node (lamina up), then take out those that are lost: lamina remove NAME\n", s.Index, strings.Join(names, ", "), len(s.Models), len(s.Keys))
	return nil
}
