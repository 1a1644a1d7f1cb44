package kernels

// pageLen is the number of positions in a page of the KV cache, and the block of the online softmax.
const pageLen = 64

// KV is the cache of keys and values of one sequence in one layer: float16, in pages of 64 positions. Within a page
// and head, K is transposed, [headDim][64], so that the lanes of q*K are positions, and V is [64][headDim] with rows
// padded to 16 elements, so that the lanes of p*V are dimensions. A KV may be read by several goroutines, but not
// while Append or Truncate run.
type KV struct {
	heads, headDim int
	length         int
	pages          [][]uint16
}

// NewKV returns an empty cache for heads key-value heads of headDim elements. It holds no pages until Append.
func NewKV(heads, headDim int) *KV {
	return &KV{heads: heads, headDim: headDim}
}

// Len is the number of positions held.
func (kv *KV) Len() int { return kv.length }

// Bytes is the memory of the pages held.
func (kv *KV) Bytes() int64 { return int64(len(kv.pages)) * kvPageBytes(kv.heads, kv.headDim) }

// KVBytes is the memory that a KV takes for a number of positions: whole pages.
func KVBytes(heads, headDim, positions int) int64 {
	return int64((positions+pageLen-1)/pageLen) * kvPageBytes(heads, headDim)
}

func kvPageBytes(heads, headDim int) int64 {
	return 2 * pageLen * int64(heads) * int64(headDim+padLanes(headDim))
}

// padLanes is the length of a row of n elements that is read by whole lanes.
func padLanes(n int) int { return (n + lanes - 1) / lanes * lanes }

// Append stores the keys and values of the next rows positions: k and v are rows x heads*headDim.
func (kv *KV) Append(k, v []float32, rows int) {
	width := kv.heads * kv.headDim
	k, v = k[:rows*width], v[:rows*width]
	for rows > 0 {
		if kv.length == len(kv.pages)*pageLen {
			kv.pages = append(kv.pages, make([]uint16, kvPageBytes(kv.heads, kv.headDim)/2))
		}
		n := min(rows, appendRows, pageLen-kv.length%pageLen)
		for h := range kv.heads {
			kv.store(h, k, v, n)
		}
		k, v, rows = k[n*width:], v[n*width:], rows-n
		kv.length += n
		safepoint()
	}
}

// appendRows is how many keys are transposed together, and appendDims how many of their elements.
const appendRows, appendDims = 16, 64

// store writes the next n keys and values of one head to their page.
func (kv *KV) store(head int, k, v []float32, n int) {
	var half [appendRows][appendDims]uint16
	keys, values := kv.page(kv.length/pageLen, head)
	slot, row, width := kv.length%pageLen, padLanes(kv.headDim), kv.heads*kv.headDim
	for from := 0; from < kv.headDim; from += appendDims {
		dims := min(appendDims, kv.headDim-from)
		for r := range n {
			toHalves(half[r][:dims], k[r*width+head*kv.headDim+from:][:dims])
		}
		for d := range dims {
			column := keys[(from+d)*pageLen+slot:][:n]
			for r := range column {
				column[r] = half[r%appendRows][d%appendDims]
			}
		}
	}
	for r := range n {
		toHalves(values[(slot+r)*row:][:kv.headDim], v[r*width+head*kv.headDim:][:kv.headDim])
	}
}

// page returns K and V of one head in one page.
func (kv *KV) page(page, head int) (keys, values []uint16) {
	kSize, vSize := pageLen*kv.headDim, pageLen*padLanes(kv.headDim)
	p := kv.pages[page][head*(kSize+vSize) : (head+1)*(kSize+vSize)]
	return p[:kSize], p[kSize:]
}

// Truncate forgets the positions from n on and frees the pages that hold no other. Appending the same rows again
// gives the same bits.
func (kv *KV) Truncate(n int) {
	if n < 0 {
		n = 0
	}
	if n >= kv.length {
		return
	}
	kv.length = n
	keep := (n + pageLen - 1) / pageLen
	clear(kv.pages[keep:])
	kv.pages = kv.pages[:keep]
}
