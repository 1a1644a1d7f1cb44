//go:build !unix

package peer

import "net"

// tryTCP is not to be had here.
func tryTCP(net.Conn) tryWriter { return nil }
