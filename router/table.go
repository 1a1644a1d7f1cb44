package router

import "lamina/cluster"

// Table lists, for every known model name, the placements that may be picked. A name with none is known
// but not ready.
type Table map[string][]cluster.Placement

// TableOf takes from the state the placements that are Ready and that usable does not refuse (a hop's node
// is seen dead, say). usable may be nil.
func TableOf(s cluster.State, usable func(cluster.Placement) bool) Table {
	byDigest := make(map[string][]cluster.Placement)
	for _, p := range s.Placements {
		if p.Phase == cluster.Ready && (usable == nil || usable(p)) {
			byDigest[p.Model] = append(byDigest[p.Model], p)
		}
	}
	t := make(Table, len(s.Models))
	for _, m := range s.Models {
		t[m.Name] = byDigest[m.Digest]
	}
	return t
}
