package consensus

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"lamina/cluster"
)

func TestAgreement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.closeAll()
		lead := l.start(3, 3)
		index := l.propose(lead, up("n1", 1))
		index = max(index, l.propose(lead, up("n2", 1)))
		l.awaitAll(index)
		for name, log := range l.logs {
			if got := log.State(); !reflect.DeepEqual(got, lead.State()) {
				t.Errorf("%s has %+v, the leader %+v", name, got, lead.State())
			}
			if got := log.Leader(); got.Leader != "n1" || got.Self != (name == "n1") {
				t.Errorf("%s sees leader %+v", name, got)
			}
			if got := len(log.Configuration()); got != 3 {
				t.Errorf("%s knows %d servers", name, got)
			}
		}

		ctx, cancel := deadline()
		defer cancel()
		var not *NotLeader
		if _, err := l.logs["n2"].Propose(ctx, up("n3", 1)); !errors.As(err, &not) || not.Leader != "n1" || not.Addr != "n1" {
			t.Errorf("proposed at a follower: %v", err)
		}
		if err := l.logs["n2"].Barrier(ctx); !errors.As(err, &not) {
			t.Errorf("barrier at a follower: %v", err)
		}
		before := lead.State()
		if _, err := lead.Propose(ctx, cluster.RemoveMember{Node: "n9", At: time.Now()}); !errors.Is(err, cluster.ErrNotFound) {
			t.Errorf("refused by the state: %v", err)
		}
		if _, err := lead.Propose(ctx, up("n9", 0)); !errors.Is(err, cluster.ErrInvalid) {
			t.Errorf("refused before the log: %v", err)
		}
		if !reflect.DeepEqual(before, lead.State()) {
			t.Error("refused commands changed the state")
		}
	})
}

func TestLeaderLoss(t *testing.T) {
	for _, n := range []int{3, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				defer l.closeAll()
				l.propose(l.start(n, n), up("n1", 1))
				l.awaitAll(1)
				l.close("n1")
				began := time.Now()
				lead := l.leader()
				if gap := time.Since(began); gap > 5*time.Second {
					t.Errorf("a new leader took %v", gap)
				}
				index := l.propose(lead, up("n2", 1))
				l.open("n1") // comes back from its disk and catches up
				l.awaitAll(index)
				if got := len(l.logs["n1"].State().Members); got != 2 {
					t.Errorf("after the return n1 has %d members, want 2", got)
				}
			})
		})
	}
}

func TestRestartOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.closeAll()
		lead := l.start(3, 3)
		var index uint64
		for i := range 20 {
			index = l.propose(lead, up(fmt.Sprint("m", i), 1))
		}
		l.awaitAll(index)
		want := lead.State()
		l.closeAll()
		for _, name := range []string{"n1", "n2", "n3"} {
			if err := l.open(name).Bootstrap(name); err != nil { // does nothing
				t.Fatal(err)
			}
		}
		l.leader()
		l.awaitAll(index)
		for name, log := range l.logs {
			if !reflect.DeepEqual(log.State(), want) {
				t.Errorf("%s came back with another state", name)
			}
			if got := len(log.Configuration()); got != 3 {
				t.Errorf("%s came back with %d servers", name, got)
			}
		}
	})
}

func TestSnapshots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.cfg.SnapshotEvery, l.cfg.SnapshotCheck = 8, time.Second
		defer l.closeAll()
		lead := l.start(1, 1)
		var index uint64
		for i := range 50 {
			index = l.propose(lead, up(fmt.Sprint("m", i), 1))
		}
		ctx, cancel := deadline()
		defer cancel()
		if err := lead.Snapshot(ctx); err != nil {
			t.Fatal(err)
		}
		if first, err := lead.store.FirstIndex(); err != nil || first < 10 {
			t.Fatalf("the log still begins at %d, %v", first, err)
		}
		l.open("n2") // its entries are gone: it gets the snapshot
		if err := lead.AddNonvoter(ctx, "n2", "n2"); err != nil {
			t.Fatal(err)
		}
		l.await("n2", "the snapshot", func(s cluster.State) bool { return s.Index >= index })
		if !reflect.DeepEqual(l.logs["n2"].State(), lead.State()) {
			t.Error("the snapshot made another state")
		}
		want := lead.State()
		l.close("n1")
		l.close("n2")
		l.open("n1")
		if got := l.logs["n1"].State(); len(got.Members) < 40 {
			t.Errorf("n1 starts from its snapshot with %d members", len(got.Members))
		}
		l.leader()
		l.await("n1", "its log", func(s cluster.State) bool { return reflect.DeepEqual(s, want) })
	})
}

func TestPromotion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.closeAll()
		lead := l.start(6, 5)
		members, health := []cluster.Member{}, map[string]Health{}
		for i := 1; i <= 6; i++ {
			name := fmt.Sprintf("n%d", i)
			members = append(members, cluster.Member{ID: name, Peer: name})
			health[name] = Health{Alive: true, For: time.Hour}
		}
		if got := Voters("n1", lead.Configuration(), members, health, time.Minute); len(got) != 0 {
			t.Fatalf("a good configuration wants %v", got)
		}
		l.close("n3")
		health["n3"] = Health{For: time.Hour}
		want := []Change{{Promote, "n6", "n6"}, {Op: Demote, ID: "n3"}}
		got := Voters("n1", lead.Configuration(), members, health, time.Minute)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("after n3 is lost: %v, want %v", got, want)
		}
		ctx, cancel := deadline()
		defer cancel()
		for _, c := range got {
			if err := lead.Change(ctx, c); err != nil {
				t.Fatal(c, err)
			}
		}
		l.close("n4")
		l.close("n5") // three of five are left: n1, n2 and the promoted n6
		l.propose(l.leader(), up("n1", 1))
	})
}

func TestMinorityCannotAgree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.closeAll()
		lead := l.start(3, 3)
		l.awaitAll(l.propose(lead, up("n1", 1)))
		l.net.setCut("n1", true)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		var not *NotLeader
		if _, err := lead.Propose(ctx, up("lost", 1)); !errors.Is(err, ErrUncertain) && !errors.As(err, &not) {
			t.Fatalf("a leader without a quorum answered %v", err)
		}
		delete(l.logs, "n1")
		index := l.propose(l.leader(), up("kept", 1))
		l.logs["n1"] = lead
		if _, ok := lead.State().Member("kept"); ok {
			t.Fatal("the cut does not cut")
		}
		l.net.setCut("n1", false)
		l.awaitAll(index)
		if _, ok := lead.State().Member("lost"); ok {
			t.Error("what was not agreed on was applied")
		}
	})
}

func TestStepDownAndRemove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.closeAll()
		first := l.start(3, 3)
		ctx, cancel := deadline()
		defer cancel()
		if err := first.StepDown(ctx); err != nil {
			t.Fatal(err)
		}
		lead := l.leader()
		if lead == first {
			t.Fatal("still leads after stepping down")
		}
		if err := first.StepDown(ctx); err != nil {
			t.Errorf("stepping down as a follower: %v", err)
		}
		if err := lead.Remove(ctx, "n1"); err != nil {
			t.Fatal(err)
		}
		if got := len(lead.Configuration()); got != 2 {
			t.Errorf("%d servers after one of three was removed", got)
		}
	})
}

func TestReaddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.closeAll()
		lead := l.start(3, 3)
		ctx, cancel := deadline()
		defer cancel()
		if err := lead.Change(ctx, Change{Readdress, "n2", "elsewhere"}); err != nil {
			t.Fatal(err)
		}
		for _, s := range lead.Configuration() {
			if s.ID == "n2" && (s.Addr != "elsewhere" || !s.Voter) {
				t.Errorf("n2 became %+v", s)
			}
		}
	})
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		lead := l.start(1, 1)
		ctx, cancel := context.WithCancel(context.Background())
		w, slow := lead.Watch(ctx), lead.Watch(context.Background())
		<-w
		var index uint64
		for i := range 10 {
			index = l.propose(lead, up(fmt.Sprint("m", i), 1))
		}
		if s := <-slow; s.Index != index {
			t.Errorf("a slow watcher got %d first, want the latest, %d", s.Index, index)
		}
		cancel()
		synctest.Wait()
		for range w { // what was waiting, then closed
		}
		l.closeAll()
		if _, ok := <-slow; ok {
			t.Error("a watch outlives the log")
		}
		if _, ok := <-lead.WatchLeader(context.Background()); !ok {
			t.Error("a late watcher gets no last value")
		}
		if _, err := lead.Propose(context.Background(), up("m", 1)); err == nil {
			t.Error("a closed log takes commands")
		}
		if err := lead.Barrier(context.Background()); !errors.Is(err, ErrClosed) {
			t.Errorf("barrier of a closed log: %v", err)
		}
	})
}

// TestCloseDoesNotWaitForTheSilent: a peer that accepts nothing, and one that answers nothing, hold up Close for
// little more than a dial.
func TestCloseDoesNotWaitForTheSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		lead := l.start(1, 1)
		l.net.listen("deaf")
		dumb := l.net.listen("dumb")
		go func() {
			for {
				if _, err := dumb.Accept(); err != nil {
					return
				}
			}
		}()
		ctx, cancel := deadline()
		defer cancel()
		for _, name := range []string{"deaf", "dumb"} {
			if err := lead.AddNonvoter(ctx, name, name); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second) // virtual: requests are under way
		began := time.Now()
		l.closeAll()
		if d := time.Since(began); d > 2*dialTime {
			t.Errorf("Close took %v", d)
		}
		_ = dumb.Close()
	})
}

func TestOpenRefuses(t *testing.T) {
	n := newNetwork()
	if _, err := Open(Config{ID: "n/1", Dir: t.TempDir(), Transport: n.listen("a")}); !errors.Is(err, cluster.ErrInvalid) {
		t.Error("bad name:", err)
	}
	if _, err := Open(Config{ID: "n1", Dir: t.TempDir()}); err == nil {
		t.Error("no transport")
	}
}

func TestUnknownEntryIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.closeAll()
		lead := l.start(1, 1)
		l.propose(lead, up("n1", 1))
		before := lead.State()
		f := lead.raft.Apply([]byte(`{"v":1,"kind":999,"data":{}}`), time.Second)
		if err := f.Error(); err != nil {
			t.Fatal(err)
		}
		if err, _ := f.Response().(error); !errors.Is(err, cluster.ErrUnknownCommand) {
			t.Errorf("a command of the future was answered with %v", f.Response())
		}
		if !reflect.DeepEqual(before, lead.State()) {
			t.Error("it changed the state")
		}
	})
}
