// Command gen writes the assembly of package kernels: for amd64 and arm64 a file of products, one of
// vector operations, one of GELU and its like, and one for package peak, each with a file of Go declarations. It is run in the folder of the
// package (go generate).
package main

import (
	"fmt"
	"os"
)

func main() {
	files, err := generate()
	if err == nil {
		for name, text := range files {
			if err = os.WriteFile(name, text, 0o644); err != nil {
				break
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// generate returns the contents of all generated files by name.
func generate() (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, part := range []struct {
		name, arch string
		emit       func(*Asm)
	}{
		{"quant", "amd64", quant}, {"vec", "amd64", vec}, {"gelu", "amd64", gelu},
		{"quant", "arm64", quantNeon}, {"vec", "arm64", vecNeon}, {"gelu", "arm64", geluNeon},
		{"float", "amd64", floatKernels}, {"float", "arm64", floatKernelsNeon},
		{"peak/peak", "amd64", peak}, {"peak/peak", "arm64", peakNeon},
	} {
		var a Asm
		part.emit(&a)
		asm, stubs, err := a.Files(part.arch)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", part.name+"_"+part.arch, err)
		}
		files[part.name+"_"+part.arch+".s"] = asm
		files[part.name+"_stubs_"+part.arch+".go"] = stubs
	}
	return files, nil
}
