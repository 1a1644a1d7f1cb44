package consensus

import (
	"flag"
	"fmt"
	"sort"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lamina/cluster"
	"lamina/cluster/internal/scripttest"
)

var update = flag.Bool("update", false, "rewrite golden files")

// TestVoters runs the script: each command lists nodes as name:marks with V voter, N non-voter, - no server;
// + alive long enough, ~ alive not yet, x dead long enough, ? dead not yet; ! no member; @ at a new address.
// The first is the leader.
func TestVoters(t *testing.T) {
	scripttest.Run(t, "testdata/voters.txt", *update, func(cmd string) string {
		var self string
		var servers []Server
		var members []cluster.Member
		health := map[string]Health{}
		for _, w := range strings.Fields(cmd) {
			id, marks, _ := strings.Cut(w, ":")
			if self == "" {
				self = id
			}
			addr := id
			if strings.Contains(marks, "@") {
				addr = id + "-new"
			}
			if !strings.Contains(marks, "-") {
				servers = append(servers, Server{id, id, strings.Contains(marks, "V")})
			}
			if !strings.Contains(marks, "!") {
				members = append(members, cluster.Member{ID: id, Peer: addr})
			}
			h := Health{Alive: strings.ContainsAny(marks, "+~"), For: time.Second}
			if strings.ContainsAny(marks, "+x") {
				h.For = time.Minute
			}
			health[id] = h
		}
		var out []string
		for _, c := range Voters(self, servers, members, health, 10*time.Second) {
			out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s", c.Op, c.ID, c.Addr)))
		}
		if len(out) == 0 {
			return "nothing"
		}
		return strings.Join(out, "\n")
	})
}

// TestVotersSettle applies what Voters asks for: one round is enough, and the result is as promised.
func TestVotersSettle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const self = "n0"
		config := map[string]Server{self: {self, self, true}}
		members := []cluster.Member{{ID: self, Peer: self}}
		health := map[string]Health{self: {true, time.Hour}}
		for i := 1; i <= rapid.IntRange(0, 9).Draw(t, "nodes"); i++ {
			id := fmt.Sprint("n", i)
			if rapid.Bool().Draw(t, "member") {
				members = append(members, cluster.Member{ID: id, Peer: id})
			}
			if rapid.Bool().Draw(t, "server") {
				config[id] = Server{id, id, rapid.Bool().Draw(t, "voter")}
			}
			health[id] = Health{rapid.Bool().Draw(t, "alive"), time.Duration(rapid.IntRange(0, 2).Draw(t, "for")) * time.Second}
		}
		list := func() (out []Server) {
			for _, s := range config {
				out = append(out, s)
			}
			sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
			return out
		}
		for _, c := range Voters(self, list(), members, health, time.Second) {
			switch c.Op {
			case Add:
				config[c.ID] = Server{c.ID, c.Addr, false}
			case Promote:
				config[c.ID] = Server{c.ID, c.Addr, true}
			case Demote:
				config[c.ID] = Server{c.ID, config[c.ID].Addr, false}
			case Remove:
				delete(config, c.ID)
			}
		}
		voters := 0
		for _, s := range config {
			if s.Voter {
				voters++
			}
		}
		if voters%2 == 0 || voters > MaxVoters || !config[self].Voter || len(config) != len(members) {
			t.Fatalf("settled on %v", config)
		}
		// Nodes that were just added may be promoted in a second round; a third has nothing to do.
		for _, c := range Voters(self, list(), members, health, time.Second) {
			switch c.Op {
			case Promote, Demote:
				config[c.ID] = Server{c.ID, c.ID, c.Op == Promote}
			default:
				t.Fatalf("second round wants %v", c)
			}
		}
		if rest := Voters(self, list(), members, health, time.Second); len(rest) != 0 {
			t.Fatalf("never settles: %v", rest)
		}
	})
}
