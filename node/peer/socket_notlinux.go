//go:build !linux

package peer

import "net"

// tuneSocket has nothing to set here.
func tuneSocket(net.Conn) {}
