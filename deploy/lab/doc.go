// Package lab runs real nodes in network namespaces and hurts them: kills, stops, cuts (one way too), delay, loss, duplication,
// corruption, slow lines, little CPU. Clients ask all the while, and every answer is compared with that of an undisturbed run.
//
// Nodes are processes of bin/lamina, each in a namespace of its own behind a router namespace. Cuts are blackhole rules of the
// router; what the kernel here cannot do (it has no netem) is done to single packets by a small router of our own behind a TUN device
// (wire.go). Everything random comes from a seed. It needs Linux, root and iproute2; make lab and make soak run it.
package lab
