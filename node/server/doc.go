// Package server is a node's way in for users: HTTP in, calls of a Service and an Admin out. A dialect is a file
// (openai_*.go, native.go, admin.go), the route list is one function (routes), and errors become statuses in one table
// (errors.go). It never retries and holds no state of the cluster.
//
// Deny by default: what is not in the list is not served, and every line of the list names the role it needs. Limits are
// on from the start (Limits); what a client sends is bounded before it is decoded.
package server
