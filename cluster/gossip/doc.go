// Package gossip says who is here, as this peer sees it: hashicorp/memberlist with encrypted packets, a label
// per cluster, and a little metadata per node. It is the only home of memberlist.
//
// What it says is eventually the same everywhere and may be wrong for seconds; any node that holds the key can
// forge it. So it gives hints: nothing that must survive or must be right is kept here.
package gossip
