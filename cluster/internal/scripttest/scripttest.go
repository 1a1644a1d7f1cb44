// Package scripttest runs golden text scripts: commands with the output they gave, in one file that reads
// like a session. It is used by the tests of the packages under cluster and router.
//
// A script is a sequence of blocks, parted by blank lines: a command of one or more lines, a line `----`,
// the expected output. A command that starts with # is a comment.
package scripttest

import (
	"os"
	"strings"
	"testing"
)

// Run feeds every command of the script to do and compares what it returns; with update the file is
// rewritten with what was returned.
func Run(t *testing.T, path string, update bool, do func(cmd string) string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, block := range strings.Split(strings.TrimSpace(string(data)), "\n\n") {
		cmd, want, _ := strings.Cut(block, "\n----")
		cmd = strings.TrimSpace(cmd)
		if strings.HasPrefix(cmd, "#") {
			out = append(out, cmd)
			continue
		}
		got := strings.TrimSpace(do(cmd))
		if !update && got != strings.TrimSpace(want) {
			t.Errorf("%s: %s\n---- got\n%s\n---- want\n%s", path, cmd, got, strings.TrimSpace(want))
		}
		out = append(out, strings.TrimSpace(cmd+"\n----\n"+got))
	}
	if update {
		if err := os.WriteFile(path, []byte(strings.Join(out, "\n\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
