package consensus

import (
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"lamina/cluster"
)

// One node of three is left. It goes on alone with all that was agreed on, and takes others in again.
func TestRecover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.closeAll()
		lead := l.start(3, 3)
		index := l.propose(lead, up("n1", 1))
		l.awaitAll(index)
		want := l.logs["n3"].State()
		for _, name := range []string{"n1", "n2", "n3"} {
			l.close(name)
		}

		cfg := l.cfg
		cfg.ID, cfg.Dir = "n3", l.dirs["n3"]
		got, err := Recover(cfg, "n3")
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("recovered %+v, %v; want %+v", got, err, want)
		}
		time.Sleep(time.Second)                       // of virtual time: snapshots are named by it
		if _, err := Recover(cfg, "n3"); err != nil { // an operator may not know whether it worked
			t.Errorf("a second time: %v", err)
		}
		alone := l.open("n3")
		if l.leader() != alone || len(alone.Configuration()) != 1 {
			t.Fatalf("servers %+v", alone.Configuration())
		}
		if got := alone.State(); !reflect.DeepEqual(got, want) {
			t.Errorf("after the start %+v, want %+v", got, want)
		}
		l.propose(alone, up("n4", 1))
		l.open("n4")
		ctx, cancel := deadline()
		defer cancel()
		if err := alone.AddVoter(ctx, "n4", "n4"); err != nil {
			t.Fatal(err)
		}
		l.awaitAll(l.propose(alone, up("n5", 1)))
	})
}

func TestRecoverRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if _, err := Recover(Config{ID: "n1", Dir: t.TempDir()}, "n1"); !errors.Is(err, ErrNothingToRecover) {
			t.Errorf("an empty directory: %v", err)
		}
		if _, err := Recover(Config{ID: "a b", Dir: t.TempDir()}, "n1"); !errors.Is(err, cluster.ErrInvalid) {
			t.Errorf("a name that is none: %v", err)
		}
		l := newLab(t)
		l.open("n1") // never in a cluster
		l.close("n1")
		cfg := l.cfg
		cfg.ID, cfg.Dir = "n1", l.dirs["n1"]
		if _, err := Recover(cfg, "n1"); !errors.Is(err, ErrNothingToRecover) {
			t.Errorf("a log without a cluster: %v", err)
		}
		first := l.open("n1")
		defer l.closeAll()
		if err := first.Bootstrap("n1"); err != nil {
			t.Fatal(err)
		}
		if _, err := Recover(cfg, "n1"); err == nil {
			t.Error("a log that is in use was recovered")
		}
	})
}
