package node

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"lamina/cluster"
	"lamina/shard/pipeline"
)

// A draining placement ends when its first stage has been without sequences for a while, and its node alone says so.
func TestDrains(t *testing.T) {
	load, now := map[uint64]int{}, time.Unix(100, 0)
	var dropped []uint64
	var fail error
	d := &drains{
		self: "n1",
		load: func(k pipeline.StageKey) pipeline.Load { return pipeline.Load{Sequences: load[k.Epoch]} },
		propose: func(_ context.Context, c cluster.Command) error {
			if fail == nil {
				dropped = append(dropped, c.(cluster.Drop).Epoch)
			}
			return fail
		},
	}
	at := func(epoch uint64, phase cluster.Phase, first string) cluster.Placement {
		return cluster.Placement{Model: "m", Epoch: epoch, Phase: phase, Hops: []cluster.Hop{{Node: first, End: 1}, {Node: "n3", First: 1, End: 2}}}
	}
	s := cluster.State{Placements: []cluster.Placement{at(1, cluster.Ready, "n1"), at(2, cluster.Draining, "n2"), at(3, cluster.Draining, "n1"), at(4, cluster.Draining, "n1")}}
	load[3] = 1
	for range 8 {
		d.tick(t.Context(), s, now)
		now = now.Add(drainQuiet / 4)
		if len(dropped) > 0 {
			s.Placements = s.Placements[:3]
		}
	}
	if !reflect.DeepEqual(dropped, []uint64{4}) {
		t.Fatalf("dropped %v, want 4: 3 is busy, 2 is another node's", dropped)
	}
	load[3], fail = 0, errors.New("no leader")
	for range 8 {
		d.tick(t.Context(), s, now)
		now = now.Add(drainQuiet / 4)
	}
	fail = nil
	d.tick(t.Context(), s, now)
	if !reflect.DeepEqual(dropped, []uint64{4, 3}) {
		t.Fatalf("dropped %v, want 3 too once there is a leader", dropped)
	}
}
