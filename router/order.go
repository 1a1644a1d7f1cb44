package router

import (
	"cmp"
	"slices"

	"github.com/cespare/xxhash/v2"

	"lamina/cluster"
)

// Order sorts nodes by how gladly each takes a key, by rendezvous (highest random weight first; ties by name): whoever knows the
// same nodes gets the same order, and a node that leaves moves no other. It returns a new slice.
func Order(key string, nodes []cluster.NodeID) []cluster.NodeID {
	type weighed struct {
		node   cluster.NodeID
		weight uint64
	}
	list := make([]weighed, len(nodes))
	for i, n := range nodes {
		h := xxhash.New()
		_, _ = h.WriteString(n) // never fails
		_, _ = h.WriteString("\x00" + key)
		list[i] = weighed{n, h.Sum64()}
	}
	slices.SortFunc(list, func(a, b weighed) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.node, b.node))
	})
	out := make([]cluster.NodeID, len(list))
	for i, w := range list {
		out[i] = w.node
	}
	return out
}
