package kernels

import (
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// write makes files under a new folder and returns it.
func write(t *testing.T, files map[string]string) string {
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestCPUQuota(t *testing.T) {
	for _, c := range []struct {
		name, own string
		files     map[string]string
		want      int
	}{
		{"none", "0::/\n", nil, math.MaxInt},
		{"no limit", "0::/a\n", map[string]string{"a/cpu.max": "max 100000\n"}, math.MaxInt},
		{"own", "0::/a\n", map[string]string{"a/cpu.max": "250000 100000\n"}, 3},
		{"parent's is smaller", "0::/a/b\n", map[string]string{"a/cpu.max": "100000 100000\n", "a/b/cpu.max": "900000 100000\n"}, 1},
		{"inside a container", "0::/\n", map[string]string{"cpu.max": "50000 100000\n"}, 1},
		{"version 1", "4:cpu,cpuacct:/x\n", map[string]string{"cpu/x/cpu.cfs_quota_us": "200000\n", "cpu/x/cpu.cfs_period_us": "100000\n"}, 2},
		{"version 1 without limit", "4:cpu,cpuacct:/x\n", map[string]string{"cpu/x/cpu.cfs_quota_us": "-1\n", "cpu/x/cpu.cfs_period_us": "100000\n"}, math.MaxInt},
		{"nonsense", "what\n0::/../..\n", map[string]string{"cpu.max": "1 2 3"}, math.MaxInt},
	} {
		if got := cpuQuota(write(t, c.files), c.own); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestDistinctCores(t *testing.T) {
	dir := write(t, map[string]string{
		"cpu0/topology/thread_siblings_list": "0,2\n",
		"cpu1/topology/thread_siblings_list": "1,3\n",
		"cpu2/topology/thread_siblings_list": "0,2\n",
		"cpu3/topology/thread_siblings_list": "1,3\n",
	})
	var set unix.CPUSet
	for _, c := range []int{0, 1, 2, 7} { // of cpu7 nothing is known: it counts
		set.Set(c)
	}
	if n := distinctCores(dir, &set); n != 3 {
		t.Errorf("%d cores, want 3", n)
	}
}

func TestSecondNumber(t *testing.T) {
	for text, want := range map[string]time.Duration{"5391 27 3\n": 27, "1 0 2": 0, "": 0, "7": 0, "1 922337203685 4": 922337203685} {
		if got := secondNumber([]byte(text)); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
