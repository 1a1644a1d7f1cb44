package kernels

import (
	"encoding/binary"
	"fmt"
)

// panelRows is the number of matrix rows whose weights are interleaved in a panel.
const panelRows = 16

// panelBytes is the size of one panel of cols columns.
func (f *form) panelBytes(cols int) int { return cols / f.block * f.panelBlock() }

// panels is the number of panels that hold rows rows.
func panels(rows int) int { return (rows + panelRows - 1) / panelRows }

// PackedSize returns the bytes that Pack writes for a matrix of the type: its rows rounded up to a
// multiple of 16. It fails with ErrType or ErrShape.
func PackedSize(t Type, rows, cols int) (int64, error) {
	if _, err := RowBytes(t, cols); err != nil {
		return 0, err
	}
	if rows <= 0 || rows > maxDim {
		return 0, fmt.Errorf("%w: %d rows", ErrShape, rows)
	}
	per, n := int64(formOf(t).panelBytes(cols)), int64(panels(rows))
	if per > (1<<62)/n {
		return 0, fmt.Errorf("%w: %d rows of %d columns", ErrShape, rows, cols)
	}
	return per * n, nil
}

// Pack turns a matrix of GGUF rows (src, rows times RowBytes) into the panels that the kernels read
// (dst, exactly PackedSize bytes; see DESIGN.md for the layout). Rows past the last are zero. The
// layout is the same for every CPU. It fails with ErrType, ErrShape, or with ErrScale when a block's
// scale is infinite or not a number; dst is then half written.
func Pack(dst, src []byte, t Type, rows, cols int) error {
	size, err := PackedSize(t, rows, cols)
	if err != nil {
		return err
	}
	rb, _ := RowBytes(t, cols)
	if int64(len(src)) != int64(rows)*int64(rb) || int64(len(dst)) != size {
		return fmt.Errorf("%w: %d x %d of %s packs %d bytes into %d, not %d into %d",
			ErrShape, rows, cols, t, int64(rows)*int64(rb), size, len(src), len(dst))
	}
	f := formOf(t)
	pb := f.panelBytes(cols)
	clear(dst[(panels(rows)-1)*pb:])
	near := make([]byte, min(rows, panelRows)*rb)
	for first := 0; first < rows; first += panelRows {
		p, end := dst[first/panelRows*pb:][:pb], min(first+panelRows, rows)
		// The packers go through 16 rows side by side, which no prefetcher likes: they come from the cache.
		if n := copy(near, src[first*rb:end*rb]); f.packPanel(p, near[:n], rb) {
			continue
		}
		for r := first; r < end; r++ {
			if err := f.packRow(p, src[r*rb:(r+1)*rb], r-first); err != nil {
				return fmt.Errorf("row %d: %w", r, err)
			}
		}
	}
	return nil
}

// packRow writes a GGUF row as row r of a panel.
func (f *form) packRow(panel, row []byte, r int) error {
	if !f.quantised() {
		f.packFloats(panel, row, r)
		return nil
	}
	var c codes
	for n := 0; n*f.bytes < len(row); n++ {
		src := row[n*f.bytes : (n+1)*f.bytes]
		dst := panel[n*f.panelBlock() : (n+1)*f.panelBlock()]
		for i := range f.subs() {
			s := f.scales(src, i)
			if !finite16(s.d) || !finite16(s.m) || f.exp && s.sc == 255 {
				return fmt.Errorf("%w: block %d", ErrScale, n)
			}
			f.readCodes(&c, src, i)
			f.putCodes(dst[f.headBytes()+i*f.subBytes()+4*r:], &c)
			f.putScales(dst, s, i, r)
		}
	}
	return nil
}

// packFloats writes a row of a float type: a column's 16 elements stand together.
func (f *form) packFloats(panel, row []byte, r int) {
	le := binary.LittleEndian
	if f.bytes == 4 {
		for k := 0; k < len(row); k += 4 {
			le.PutUint32(panel[k*panelRows+4*r:], le.Uint32(row[k:]))
		}
		return
	}
	for k := 0; k < len(row); k += 2 {
		le.PutUint16(panel[k*panelRows+2*r:], le.Uint16(row[k:]))
	}
}

// putScales writes what scales sub-block i of row r.
func (f *form) putScales(blk []byte, s blockScales, i, r int) {
	le := binary.LittleEndian
	p := blk[f.headBytes()+i*f.subBytes()+64*f.low+64*f.high:]
	if f.exp {
		p[r] = s.sc
		return
	}
	d := p
	if f.super {
		p[r] = s.sc
		if f.scaleBytes() > panelRows {
			p[panelRows+r] = s.mn
		}
		d = blk
	}
	le.PutUint16(d[2*r:], s.d)
	if f.mins {
		le.PutUint16(d[2*panelRows+2*r:], s.m)
	}
}

// Dequantize turns a row of GGUF bytes into float32; len(dst) elements. Each value is the exact
// scale*weight+min of its block, rounded once. It fails with ErrType, or with ErrShape when src is not
// a row of len(dst) elements.
func Dequantize(dst []float32, t Type, src []byte) error {
	n, err := RowBytes(t, len(dst))
	if err != nil {
		return err
	}
	if n != len(src) {
		return fmt.Errorf("%w: %d bytes for %d elements of %s, which need %d", ErrShape, len(src), len(dst), t, n)
	}
	f := formOf(t)
	if !f.quantised() {
		for i := range dst {
			dst[i] = f.float(src, i)
		}
		return nil
	}
	var b sub
	for i := 0; i < len(dst); i += 32 {
		f.read(&b, src[i/f.block*f.bytes:(i/f.block+1)*f.bytes], i%f.block/32)
		b.value(dst[i : i+32])
	}
	return nil
}
