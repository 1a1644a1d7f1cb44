// Package consensus keeps the replicated log of cluster commands: hashicorp/raft with a durable log and
// snapshots on disk. It is the only home of raft.
//
// A Log applies committed commands to a cluster.State in order. Propose changes it, at the leader only; State
// and Watch read it, at every peer. Who votes is decided by the pure function Voters and carried out by the
// leader's node through Change.
package consensus
