package kernels

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// runDelay returns the thread that it runs on and how long that has been ready to run while others ran, since it began; 0, 0 where the system
// does not say.
func runDelay() (thread int, sum time.Duration) {
	fd, err := unix.Open("/proc/thread-self/schedstat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, 0
	}
	var b [96]byte
	n, err := unix.Read(fd, b[:])
	thread = unix.Gettid()
	_ = unix.Close(fd)
	if err != nil {
		return 0, 0
	}
	return thread, secondNumber(b[:n])
}

// secondNumber reads the second of the numbers in b: time on the processor, waiting time, slices.
func secondNumber(b []byte) time.Duration {
	_, b, _ = bytes.Cut(b, []byte(" "))
	sum := time.Duration(0)
	for _, c := range b {
		if c < '0' || c > '9' {
			break
		}
		sum = sum*10 + time.Duration(c-'0')
	}
	return sum
}

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
