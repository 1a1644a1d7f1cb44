package node

import (
	"bufio"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// memoryLimit returns how many bytes weights and KV caches may take: what the settings say, else 80 % of
// what the machine and the cgroup have left.
func memoryLimit(configured int64) int64 {
	if configured > 0 {
		return configured
	}
	free := machineFree()
	if c := cgroupFree("/sys/fs/cgroup"); c > 0 && (free == 0 || c < free) {
		free = c
	}
	if free == 0 {
		return 2 << 30 // a machine that does not say: small enough for most
	}
	return free / 10 * 8
}

// spareMemory is what may be taken now without pushing others out: what the machine and the cgroup have left, but for a
// twentieth of it, at least 128 MiB. Files that are only cached count as left.
func spareMemory() int64 {
	free := machineFree()
	if c := cgroupFree("/sys/fs/cgroup"); c > 0 {
		c += cgroupCached("/sys/fs/cgroup")
		if free == 0 || c < free {
			free = c
		}
	}
	if free == 0 {
		return math.MaxInt64 // a machine that does not say
	}
	return free - max(free/20, 128<<20)
}

// cgroupCached is how much of the cgroup's memory are files that can be read again.
func cgroupCached(root string) int64 {
	b, err := os.ReadFile(filepath.Join(root, "memory.stat"))
	if err != nil {
		return 0
	}
	var sum int64
	for line := range strings.Lines(string(b)) {
		for _, key := range []string{"inactive_file ", "active_file "} {
			if rest, ok := strings.CutPrefix(line, key); ok {
				n, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
				if err == nil {
					sum += n
				}
			}
		}
	}
	return sum
}

// machineFree reads MemAvailable of /proc/meminfo; 0 where there is none.
func machineFree() int64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		if rest, ok := strings.CutPrefix(sc.Text(), "MemAvailable:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				return 0
			}
			return kb << 10
		}
	}
	return 0
}

// cgroupFree is what the unified cgroup mounted at root leaves; 0 if it sets no limit.
func cgroupFree(root string) int64 {
	limit, ok := readBytes(filepath.Join(root, "memory.max"))
	if !ok {
		return 0
	}
	used, _ := readBytes(filepath.Join(root, "memory.current"))
	return max(limit-used, 1)
}

func readBytes(path string) (int64, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil
}

// tuneRuntime sets the Go runtime for a process that computes: more Ps than workers, so that the network's
// goroutines run beside spinning workers (a ping-pong takes 20 ms with as many Ps as workers, 1 ms with twice as many;
// KERNELS measurements), and a collector that lets the heap double only up to a bound.
func tuneRuntime(threads int) {
	if n := runtime.NumCPU() + threads; runtime.GOMAXPROCS(0) < n {
		runtime.GOMAXPROCS(n)
	}
	debug.SetGCPercent(100)
}
