package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"lamina/node"
)

// nodeFlags are the settings of a node; both up and join have them.
type nodeFlags struct {
	Name    string   `help:"Name of the node, unique in the cluster (default: the host's name)." placeholder:"NAME"`
	Data    string   `help:"Folder for keys, state and weights; one node's own (default: ${data})." placeholder:"DIR"`
	Peer    string   `help:"Address at which the other nodes reach this one (default: ${default})." default:"127.0.0.1:7946" placeholder:"HOST:PORT"`
	HTTP    string   `help:"Address of the API (default: ${default}). Off loopback every request needs a key." name:"http" default:"127.0.0.1:8080" placeholder:"HOST:PORT"`
	Memory  byteSize `help:"Memory for weights and caches, as 8GiB or in bytes; 0 is 80 % of what is free." default:"0" placeholder:"BYTES"`
	Threads int      `help:"Threads that compute; 0 is every CPU." default:"0" placeholder:"N"`
	OTLP    string   `help:"URL of an OpenTelemetry collector, such as http://127.0.0.1:4318." name:"otlp" placeholder:"URL"`
}

// config is the node's configuration: defaults, and what the flags say.
func (f nodeFlags) config(a *app, join string) node.Config {
	c := node.Default()
	for _, s := range []struct {
		to   *string
		from string
	}{{&c.Name, f.Name}, {&c.Data, f.Data}, {&c.Peer, f.Peer}, {&c.HTTP, f.HTTP}, {&c.OTLP, f.OTLP}, {&c.Join, join}} {
		if s.from != "" {
			*s.to = s.from
		}
	}
	c.Memory, c.Threads = int64(f.Memory), f.Threads
	c.Log = slog.New(slog.NewTextHandler(a.err, nil))
	return c
}

// touchTime is how long a node that listens may be out of touch with its cluster before it says that it is ready all the
// same: after an outage of all nodes the cluster is there again only when most have been started, and a script that
// starts one after the other waits for each.
const touchTime = 3 * time.Second

// serve runs a node until it is told to stop. started runs once the cluster knows the node.
func serve(a *app, cfg node.Config, started func(context.Context, *node.Node)) error {
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(stop)
	n, err := node.New(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	begun := make(chan error, 1)
	go func() { begun <- n.Start(ctx) }()
	select {
	case err := <-begun:
		if err != nil {
			return err
		}
	case <-stop:
		cancel()
		<-begun
		return n.Close()
	}
	if meet(a, n, stop) {
		started(ctx, n)
		<-stop
	}
	fmt.Fprintln(a.err, "stopping; once more to stop at once")
	closed := make(chan error, 1)
	go func() { closed <- n.Close() }()
	select {
	case err := <-closed:
		return err
	case <-stop:
		return context.Canceled // what is left ends with the process
	}
}

// meet says when the node is ready, waits until the cluster knows it, and returns true; false if it is told to stop before.
func meet(a *app, n *node.Node, stop <-chan os.Signal) bool {
	peer, http := n.Addrs()
	ready := fmt.Sprintf("ready: node %s, API http://%s, peers %s", n.Name(), http, peer)
	late := time.NewTimer(touchTime)
	defer late.Stop()
	select {
	case <-n.Known():
		fmt.Fprintln(a.err, ready)
		return true
	case <-stop:
		return false
	case <-late.C:
	}
	fmt.Fprintf(a.err, "%s\nThe node serves, but is not in touch with its cluster yet (%v); it goes on trying.\n", ready, n.Ready())
	select {
	case <-n.Known():
		fmt.Fprintln(a.err, "The node is in touch with its cluster.")
		return true
	case <-stop:
		return false
	}
}
