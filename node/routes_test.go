package node

import (
	"errors"
	"testing"

	"lamina/cluster"
	"lamina/node/infer"
)

// A model that was agreed on a moment ago, and is not in the table yet, is loading; one that was not is unknown.
func TestRoutesFollowTheState(t *testing.T) {
	rs := newRoutes(1, func() cluster.State { return cluster.State{Models: []cluster.Model{{Name: "new"}}} })
	if _, err := rs.Pick("new", nil); !errors.Is(err, infer.ErrModelLoading) {
		t.Errorf("a new model: %v", err)
	}
	if _, err := rs.Pick("none", nil); !errors.Is(err, infer.ErrModelNotFound) {
		t.Errorf("no model: %v", err)
	}
}
