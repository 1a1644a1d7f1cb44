package kernels

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// byRow packs a matrix row by row: the layout as DESIGN.md says it, and the truth for the packers of whole panels.
func byRow(t testing.TB, typ Type, rows, cols int, src []byte) []byte {
	t.Helper()
	size, err := PackedSize(typ, rows, cols)
	if err != nil {
		t.Fatal(err)
	}
	rb, _ := RowBytes(typ, cols)
	f := formOf(typ)
	out, pb := make([]byte, size), f.panelBytes(cols)
	for r := range rows {
		if err := f.packRow(out[r/panelRows*pb:][:pb], src[r*rb:][:rb], r%panelRows); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// TestPackPanels: whole panels are packed as row by row, whatever the rows and columns.
func TestPackPanels(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	for _, typ := range allTypes {
		for _, rows := range []int{1, 2, 3, 5, 15, 16, 17, 33} {
			for _, blocks := range []int{1, 2, 3, 7} {
				cols := blocks * typ.Block()
				src := randomRows(r, typ, rows, cols)
				want := byRow(t, typ, rows, cols, src)
				got := bytes.Repeat([]byte{0xa5}, len(want))
				if err := Pack(got, src, typ, rows, cols); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, want) {
					t.Errorf("%s, %d x %d: packed otherwise than row by row", typ, rows, cols)
				}
			}
		}
	}
}
