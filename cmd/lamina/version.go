package main

import (
	"fmt"
	"runtime"

	"lamina/node"
)

type versionCmd struct{}

// Run prints what this program is.
func (versionCmd) Run(a *app) error {
	fmt.Fprintf(a.out, "lamina %s (%s, %s/%s)\n", node.Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}
