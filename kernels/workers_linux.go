package kernels

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// yieldThread gives the processor to another thread, of this program or another.
func yieldThread() { unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// usableCores counts the cores that this process may use.
func usableCores() int {
	n := runtime.NumCPU()
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) == nil {
		n = distinctCores("/sys/devices/system/cpu", &set)
	}
	own, _ := os.ReadFile("/proc/self/cgroup")
	return max(1, min(n, cpuQuota("/sys/fs/cgroup", string(own))))
}

// distinctCores counts the cores behind a set of CPUs: of the threads of one core the first counts.
func distinctCores(sys string, set *unix.CPUSet) int {
	seen := map[string]bool{}
	for c := range len(set) * 64 {
		if !set.IsSet(c) {
			continue
		}
		name := filepath.Join(sys, "cpu"+strconv.Itoa(c), "topology", "thread_siblings_list")
		b, err := os.ReadFile(name)
		if err != nil {
			b = []byte(strconv.Itoa(c))
		}
		seen[strings.TrimSpace(string(b))] = true
	}
	return len(seen)
}

// cpuQuota returns the CPU quota of the process's control groups in whole CPUs, rounded up; without
// one, a very large number. own is the text of /proc/self/cgroup: lines of id:controllers:path.
func cpuQuota(root, own string) int {
	best := math.MaxInt
	for line := range strings.Lines(own) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 {
			continue
		}
		switch {
		case part[0] == "0":
			best = min(best, eachGroup(root, part[2], quotaV2))
		case strings.Contains(part[1], "cpu"):
			best = min(best, eachGroup(filepath.Join(root, "cpu"), part[2], quotaV1))
		}
	}
	return best
}

// eachGroup returns the smallest quota of a group and its ancestors.
func eachGroup(root, path string, quota func(dir string) int) int {
	best := quota(root)
	for p := filepath.Clean("/" + path); p != "/"; p = filepath.Dir(p) {
		best = min(best, quota(filepath.Join(root, p)))
	}
	return best
}

// quotaV2 reads cpu.max: the microseconds of CPU in a period, and the period.
func quotaV2(dir string) int {
	b, _ := os.ReadFile(filepath.Join(dir, "cpu.max"))
	f := strings.Fields(string(b))
	if len(f) != 2 {
		return math.MaxInt
	}
	return ratio(f[0], f[1])
}

// quotaV1 reads the same from the two files of version 1.
func quotaV1(dir string) int {
	q, _ := os.ReadFile(filepath.Join(dir, "cpu.cfs_quota_us"))
	p, _ := os.ReadFile(filepath.Join(dir, "cpu.cfs_period_us"))
	return ratio(strings.TrimSpace(string(q)), strings.TrimSpace(string(p)))
}

// ratio divides two decimal numbers, rounding up; anything but two positive numbers is no limit.
func ratio(quota, period string) int {
	q, err1 := strconv.Atoi(quota)
	p, err2 := strconv.Atoi(period)
	if err1 != nil || err2 != nil || q <= 0 || p <= 0 {
		return math.MaxInt
	}
	return (q-1)/p + 1
}
