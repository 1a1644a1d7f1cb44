package router

import (
	"fmt"
	"slices"
	"testing"
)

// Keys spread evenly, whatever the order of the nodes' names, and a node that leaves moves only its own.
func TestOrder(t *testing.T) {
	nodes := []string{"n1", "n2", "n3", "n4", "n5"}
	rest := []string{"n5", "n1", "n4", "n2"} // without n3
	first := map[string]int{}
	for i := range 5000 {
		key := fmt.Sprint("key", i)
		all, fewer := Order(key, nodes), Order(key, rest)
		first[all[0]]++
		if want := slices.DeleteFunc(slices.Clone(all), func(n string) bool { return n == "n3" }); !slices.Equal(fewer, want) {
			t.Fatalf("%s: %v without n3 is %v", key, all, fewer)
		}
	}
	for _, n := range nodes {
		if first[n] < 900 || first[n] > 1100 {
			t.Errorf("%s is first for %d of 5000 keys", n, first[n])
		}
	}
	if got := Order("k", nil); len(got) != 0 {
		t.Errorf("no nodes: %v", got)
	}
}
