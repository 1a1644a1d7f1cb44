// Package cluster holds the facts that all peers of a Lamina cluster agree on, and how they change.
//
// State is a value: members, models, placements, join tokens, keys, settings. A Command is one agreed
// change; State.Apply returns the next state or refuses the command and leaves the state as it was.
// Apply is pure and total: no clock, no I/O, no randomness, no panic, so that equal commands in equal
// order give equal states on every peer. The time of a change is a field of its command.
//
// How commands are agreed on is the business of cluster/consensus, who is alive that of cluster/gossip,
// which commands would improve things that of cluster/plan. This package imports the standard library only.
package cluster
