package node

import (
	"testing"
	"time"

	"lamina/cluster"
	"lamina/cluster/gossip"
)

// A node that says it is here counts as seen, though gossip has not found it again: else the leader and the node
// would contradict each other as fast as they can write.
func TestWhoSaysThatItIsHereIsSeen(t *testing.T) {
	l := &leader{dead: 10 * time.Second, members: func() []gossip.Peer { return nil }}
	l.mu.seen = map[cluster.NodeID]sighting{}
	now := time.Unix(1000, 0)
	m := cluster.Member{ID: "n1", Incarnation: 1, Since: now}
	alive := func(after time.Duration) bool {
		now = now.Add(after)
		l.look(cluster.State{Members: []cluster.Member{m}}, now)
		return l.live(now)["n1"].Alive
	}
	if !alive(0) || !alive(9*time.Second) || alive(2*time.Second) {
		t.Fatal("a node that nobody hears is lost after ten seconds, not before")
	}
	m.Down, m.Since = true, now
	if alive(time.Second) {
		t.Fatal("declaring a node lost made it live")
	}
	m.Down, m.Since = false, now // it contradicts
	if !alive(0) || !alive(9*time.Second) || alive(2*time.Second) {
		t.Fatal("a node that says it is here gets ten seconds more, and no longer")
	}
}
