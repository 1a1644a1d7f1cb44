package plan

import "lamina/cluster"

// maxPositions bounds the positions for which a placement keeps KV room, over all its sequences.
const maxPositions = 8192

// kvBlock is how many positions the caches take memory for at a time, as shard does.
const kvBlock = 64

// Positions returns for how many positions a placement of the model keeps KV room: one sequence of full context,
// at most 8192, in whole blocks of 64.
func Positions(m cluster.Model) int {
	return (min(m.Context, maxPositions) + kvBlock - 1) / kvBlock * kvBlock
}

// SpanBytes returns what a stage of layers first to end (exclusive) takes of a node's memory: its weights as
// loaded, and the room for its KV cache. Zero if the span does not lie within the model.
func SpanBytes(m cluster.Model, first, end int) (weights, kv int64) {
	if first < 0 || end > m.Layers || first >= end {
		return 0, 0
	}
	c := newCost(m)
	return c.weights(first, end), c.kv * int64(end-first)
}

// cost prices the spans of one model.
type cost struct {
	layers    int
	sum       []int64 // sum[i]: bytes of the first i layers
	kv        int64   // KV room per layer
	meta      int64
	embed     int64
	head      int64
	tied      bool
	embedTime int64   // bytes that a look-up in the embedding reads
	message   float64 // bytes between two stages for one token of an answer and its part of a prompt
}

func newCost(m cluster.Model) cost {
	size := make(map[string]int64, len(m.Blobs))
	for _, b := range m.Blobs {
		size[b.Name] = b.Size
	}
	c := cost{
		layers: m.Layers, sum: make([]int64, m.Layers+1), kv: m.KVBytes * int64(Positions(m)),
		meta: size[cluster.BlobMeta], embed: size[cluster.BlobEmbed], head: size[cluster.BlobHead], tied: m.Tied,
	}
	for l := range m.Layers {
		c.sum[l+1] = c.sum[l] + size[cluster.LayerBlob(l)]
	}
	c.embedTime = c.embed / int64(max(m.Vocab, 1))
	c.message = 4 * float64(m.Hidden) * (1 + promptTokens)
	return c
}

// weights is what SpanBlobs of the span add up to.
func (c *cost) weights(first, end int) int64 {
	n := c.meta + c.sum[end] - c.sum[first]
	if first == 0 || end == c.layers && c.tied {
		n += c.embed
	}
	if end == c.layers {
		n += c.head
	}
	return n
}

// memory is what the stage takes in all.
func (c *cost) memory(first, end int) int64 {
	return c.weights(first, end) + c.kv*int64(end-first)
}

// time is how many bytes of weights the stage gets through for a token of an answer. The embedding is one row; the head
// is read whole, and where it is tied it is the embedding.
func (c *cost) time(first, end int) float64 {
	n := c.prompt(first, end)
	if end == c.layers {
		n += float64(c.head)
		if c.tied {
			n += float64(c.embed)
		}
	}
	return n
}

// prompt is the same for a token of a prompt, of which nobody asks what comes next.
func (c *cost) prompt(first, end int) float64 {
	n := c.sum[end] - c.sum[first]
	if first == 0 {
		n += c.embedTime
	}
	return float64(n)
}

// StepBytes returns how many bytes of weights a stage of layers first to end (exclusive) gets through in a step: for a token
// of an answer, and for tokens of a prompt. Rates are measured by it and planned by it.
func StepBytes(m cluster.Model, first, end int) (answer, prompt float64) {
	if first < 0 || end > m.Layers || first >= end {
		return 0, 0
	}
	c := newCost(m)
	return c.time(first, end), c.prompt(first, end)
}
