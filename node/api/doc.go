// Package api holds what a client of a node sees: the types on the wire of the native and the cluster routes, their two
// codecs (JSON and MessagePack), and a Go client. The OpenAI dialect is not here: its clients bring their own types.
//
// A type's json tags name its fields in both codecs (package wire reads them too), so the two cannot drift apart.
// Times are Unix seconds, sizes are bytes, durations are milliseconds and say so in their names. A message with a field
// that its type does not know is refused, so a misspelt option is never silently ignored.
package api
