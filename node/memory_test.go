package node

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCgroupFree(t *testing.T) {
	for _, c := range []struct {
		max, current string
		want         int64
	}{
		{"max\n", "1000\n", 0}, // no limit
		{"5000\n", "1000\n", 4000},
		{"1000\n", "5000\n", 1}, // over it: as good as nothing, but not "no limit"
		{"nonsense", "1", 0},
	} {
		dir := t.TempDir()
		for name, text := range map[string]string{"memory.max": c.max, "memory.current": c.current} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := cgroupFree(dir); got != c.want {
			t.Errorf("memory.max %q, memory.current %q: %d free, want %d", c.max, c.current, got, c.want)
		}
	}
	if got := cgroupFree(t.TempDir()); got != 0 {
		t.Errorf("no cgroup: %d", got)
	}
}

func TestMemoryLimit(t *testing.T) {
	if got := memoryLimit(12345); got != 12345 {
		t.Errorf("the configured memory is %d", got)
	}
	if got := memoryLimit(0); got <= 0 {
		t.Errorf("the default memory is %d", got)
	}
}
