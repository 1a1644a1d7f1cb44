// Command gen writes the assembly of package kernels: quant_amd64.s, vec_amd64.s and gelu_amd64.s, each with a
// file of Go declarations. It is run in the folder of the package (go generate).
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
		name string
		emit func(*Asm)
	}{{"quant", quant}, {"vec", vec}, {"gelu", gelu}} {
		var a Asm
		part.emit(&a)
		asm, stubs, err := a.Files()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
		files[part.name+"_amd64.s"] = asm
		files[part.name+"_stubs_amd64.go"] = stubs
	}
	return files, nil
}
