package kernels

// KVBlockLen is the number of positions in a block of the KV cache, and the block of the online softmax.
const KVBlockLen = pageLen

const pageLen = 64

// KVBlocks is the memory of one sequence's cache: element i holds the positions from 64*i on in all layers, one layer
// after another, each KVBlockSize elements. Its owner may add blocks, take away what no KV counts as held, and put another
// with the same contents in a block's place, but not while a KV over it is appended to or read.
type KVBlocks [][]uint16

// KVBlockSize is the number of float16 elements that a block of 64 positions takes in one layer.
func KVBlockSize(heads, headDim int) int { return pageLen * heads * (headDim + padLanes(headDim)) }

// KVBytes is the memory that a number of positions takes in one layer: whole blocks.
func KVBytes(heads, headDim, positions int) int64 {
	return 2 * int64((positions+pageLen-1)/pageLen) * int64(KVBlockSize(heads, headDim))
}

// KV is the cache of keys and values of one sequence in one layer, float16, in blocks that are not its own. Within a block
// and head, K is transposed, [headDim][64], so that the lanes of q*K are positions, and V is [64][headDim] with rows
// padded to 16 elements, so that the lanes of p*V are dimensions. A KV may be read by several goroutines, but not
// while Append or SetLen run.
type KV struct {
	blocks         *KVBlocks
	at             int // where the layer begins in a block
	heads, headDim int
	length         int
}

// NewKV returns the empty cache of a layer, counted from 0, of heads key-value heads of headDim elements.
func NewKV(blocks *KVBlocks, layer, heads, headDim int) KV {
	return KV{blocks: blocks, at: layer * KVBlockSize(heads, headDim), heads: heads, headDim: headDim}
}

// Len is the number of positions held.
func (kv *KV) Len() int { return kv.length }

// SetLen makes n the number of positions held. Fewer forgets the last ones: appending the same rows again gives the same
// bits. More takes over what the blocks hold of another sequence that began with the same rows.
func (kv *KV) SetLen(n int) { kv.length = n }

// padLanes is the length of a row of n elements that is read by whole lanes.
func padLanes(n int) int { return (n + lanes - 1) / lanes * lanes }

// Append stores the keys and values of the next rows positions: k and v are rows x heads*headDim. The blocks must be there.
func (kv *KV) Append(k, v []float32, rows int) {
	width := kv.heads * kv.headDim
	k, v = k[:rows*width], v[:rows*width]
	for rows > 0 {
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

// store writes the next n keys and values of one head to their block.
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

// page returns K and V of one head in one block.
func (kv *KV) page(block, head int) (keys, values []uint16) {
	kSize, vSize := pageLen*kv.headDim, pageLen*padLanes(kv.headDim)
	from := kv.at + head*(kSize+vSize)
	p := (*kv.blocks)[block][from : from+kSize+vSize]
	return p[:kSize], p[kSize:]
}
