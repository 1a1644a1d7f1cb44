// Package pipeline strings the stages of one model together and drives sequences through them.
//
// A Host is one node's end of it: it serves the stages the node holds and starts sequences as a gateway.
// Frames between nodes go through a Sender and come back through Host.Deliver; this package knows no socket,
// no telemetry and no wall clock but the one it is given.
//
// The logic stands in two cores without goroutines or I/O: a stage (stage.go, group.go, tail.go) takes frames and
// finished steps and gives frames and the next step; a driver (driver.go) is the gateway's side of one sequence.
// Host (host.go, runner.go) adds goroutines, locks and the clock. DESIGN.md tells the flows and what they cost.
package pipeline
