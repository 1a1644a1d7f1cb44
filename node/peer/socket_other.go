//go:build !unix

package peer

import "net"

// rawTCP is not to be had here.
func rawTCP(net.Conn) rawConn { return nil }
