#!/usr/bin/env python3
"""Reference logits for the tests of shard/, and how far llama.cpp is from them.

  golden_llm.py make MODEL.gguf OUT.golden    a float32 forward pass of the mixed text below, in numpy
  golden_llm.py llama MODEL.gguf IN.golden    llama.cpp's distance from it (needs the package xllamacpp)

The weights are dequantised by the gguf package and nothing else is rounded below float32, so this is what
the model file says, not what an engine makes of it. A golden holds, for each of 64 positions, the logits
of the 512 most likely tokens and the logarithm of the sum of all exponentials; the rest of the vocabulary
counts as one more token in a divergence. Little endian: "LAMGOLD1", positions u32, kept u32, token ids
i32[positions], log-sum-exp f32[positions], then ids i32[positions][kept], logits f32[positions][kept].
Needs numpy, gguf and tokenizers (all on PyPI). Not run by CI: the goldens are in shard/testdata.
"""
import struct
import sys

import numpy as np

POSITIONS, KEPT = 64, 512
# Prose, code, numbers and two other languages. A text whose every next token is a toss-up between two would measure
# luck: here few of the reference's first choices are less than 0.1 ahead of its second.
TEXT = """# mean of a list
def mean(xs):
    return sum(xs) / len(xs)

1, 2, 4, 8, 16. Paris is the capital of France. Am Abend war das Meer ganz ruhig. 今天天气很好，我们去散步。"""


class Model:
    """A llama, qwen2 or gemma3 file with its weights as float32."""

    def __init__(self, path):
        from gguf import GGUFReader
        self.reader = GGUFReader(path)
        self.arch = self.meta("general.architecture")
        self.tensors = {t.name: t for t in self.reader.tensors}
        key = lambda name, default=None: self.meta(f"{self.arch}.{name}", default)
        self.layers, hidden = key("block_count"), key("embedding_length")
        self.heads = key("attention.head_count")
        self.kv_heads = key("attention.head_count_kv", self.heads)
        self.dim = key("attention.key_length", hidden // self.heads)
        self.eps = np.float32(key("attention.layer_norm_rms_epsilon"))
        self.base = key("rope.freq_base", 10000.0)
        self.gemma, self.window = self.arch == "gemma3", key("attention.sliding_window")

    def meta(self, name, default=None):
        field = self.reader.fields.get(name)
        return default if field is None else field.contents()

    def weight(self, name):
        from gguf.quants import dequantize
        t = self.tensors.get(name)
        return None if t is None else np.asarray(dequantize(t.data, t.tensor_type), np.float32)

    def pieces(self, text):
        """SentencePiece by scores: the pair of neighbours whose joint token has the best score is joined first."""
        texts, scores = self.meta("tokenizer.ggml.tokens"), self.meta("tokenizer.ggml.scores")
        ids = {w: i for i, w in enumerate(texts)}
        text = text.replace(" ", "\u2581")
        parts = list("\u2581" + text if self.meta("tokenizer.ggml.add_space_prefix", True) else text)
        while True:
            pairs = [(-scores[ids[a + b]], i) for i, (a, b) in enumerate(zip(parts, parts[1:])) if a + b in ids]
            if not pairs:
                return [self.meta("tokenizer.ggml.bos_token_id")] + [ids[p] for p in parts]
            _, i = min(pairs)
            parts[i : i + 2] = [parts[i] + parts[i + 1]]

    def tokens(self, text):
        if self.meta("tokenizer.ggml.model") == "llama":
            return self.pieces(text)
        from tokenizers import Tokenizer, models, pre_tokenizers
        vocab = {w: i for i, w in enumerate(self.meta("tokenizer.ggml.tokens"))}
        merges = [tuple(m.split(" ")) for m in self.meta("tokenizer.ggml.merges")]
        tk = Tokenizer(models.BPE(vocab=vocab, merges=merges))
        tk.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        return tk.encode(text).ids

    def norm(self, x, weight):
        mean = np.mean(np.square(x), axis=-1, keepdims=True, dtype=np.float32)
        return x / np.sqrt(mean + self.eps) * weight

    def project(self, x, name):
        y = x @ self.weight(name + ".weight").T
        bias = self.weight(name + ".bias")
        return y if bias is None else y + bias

    def rotate(self, x, base):
        """x: positions x heads x dim."""
        angle = np.arange(len(x))[:, None] * base ** (-np.arange(0, self.dim, 2) / self.dim)
        cos, sin = (f(angle)[:, None].astype(np.float32) for f in (np.cos, np.sin))
        out = np.empty_like(x)
        if self.arch == "llama":  # neighbours are a pair
            pair = (np.s_[..., 0::2], np.s_[..., 1::2])
        else:  # the two halves of a head
            pair = (np.s_[..., : self.dim // 2], np.s_[..., self.dim // 2 :])
        a, b = x[pair[0]], x[pair[1]]
        out[pair[0]], out[pair[1]] = a * cos - b * sin, a * sin + b * cos
        return out

    def attention(self, x, i):
        p, n, group = f"blk.{i}.", len(x), self.heads // self.kv_heads
        assert not self.gemma or n <= self.window  # within it a sliding layer sees everything
        base = 10000.0 if self.gemma and (i + 1) % 6 else self.base
        q = self.project(x, p + "attn_q").reshape(n, self.heads, self.dim)
        k = self.project(x, p + "attn_k").reshape(n, self.kv_heads, self.dim)
        if self.gemma:
            q, k = (self.norm(y, self.weight(p + f"attn_{c}_norm.weight")) for c, y in (("q", q), ("k", k)))
        q, k = self.rotate(q, base), self.rotate(k, base)
        v = self.project(x, p + "attn_v").reshape(n, self.kv_heads, self.dim)
        future = np.triu(np.full((n, n), -np.inf, np.float32), 1)
        out = np.empty_like(q)
        for h in range(self.heads):
            s = q[:, h] @ k[:, h // group].T / np.float32(np.sqrt(self.dim)) + future
            s = np.exp(s - s.max(axis=-1, keepdims=True))
            out[:, h] = s / s.sum(axis=-1, keepdims=True) @ v[:, h // group]
        return self.project(out.reshape(n, -1), p + "attn_output")

    def post(self, x, name):
        """What leaves a block: Gemma norms it."""
        return self.norm(x, self.weight(name)) if self.gemma else x

    def forward(self, tokens):
        """Logits of every position."""
        embedding = self.weight("token_embd.weight")
        x = embedding[tokens]
        if self.gemma:
            x = x * np.float32(np.sqrt(x.shape[1]))
        for i in range(self.layers):
            p = f"blk.{i}."
            x = x + self.post(self.attention(self.norm(x, self.weight(p + "attn_norm.weight")), i), p + "post_attention_norm.weight")
            h = self.norm(x, self.weight(p + "ffn_norm.weight"))
            gate = self.project(h, p + "ffn_gate")
            if self.gemma:  # GELU by its approximation with tanh
                gate = gate / 2 * (1 + np.tanh(np.float32(np.sqrt(2 / np.pi)) * (gate + np.float32(0.044715) * gate**3)))
            else:
                gate = gate / (1 + np.exp(-gate))
            x = x + self.post(self.project(gate * self.project(h, p + "ffn_up"), p + "ffn_down"), p + "post_ffw_norm.weight")
        x = self.norm(x, self.weight("output_norm.weight"))
        head = self.weight("output.weight")
        return x @ (embedding if head is None else head).T


def make(model_path, out_path):
    m = Model(model_path)
    tokens = m.tokens(TEXT)[:POSITIONS]
    assert len(tokens) == POSITIONS, f"the text has only {len(tokens)} tokens"
    logits = m.forward(tokens)
    top = logits.max(axis=-1)
    lse = top + np.log(np.exp(logits - top[:, None]).sum(axis=-1, dtype=np.float64))
    ids = np.argsort(-logits, axis=-1, kind="stable")[:, :KEPT]
    kept = np.take_along_axis(logits, ids, axis=-1)
    mass = np.exp(kept - lse[:, None]).sum(axis=-1)
    with open(out_path, "wb") as f:
        f.write(b"LAMGOLD1" + struct.pack("<II", POSITIONS, KEPT))
        for a, t in ((tokens, "<i4"), (lse, "<f4"), (ids, "<i4"), (kept, "<f4")):
            f.write(np.asarray(a).astype(t).tobytes())
    np.savez(out_path + ".full.npz", logits=logits)  # for a look by hand; not committed
    print(f"{out_path}: kept probability: mean {mass.mean():.4f}, least {mass.min():.4f}")


def read(path):
    b = open(path, "rb").read()
    n, k = struct.unpack("<II", b[8:16])
    at = 16
    for count, t in ((n, "<i4"), (n, "<f4"), (n * k, "<i4"), (n * k, "<f4")):
        a = np.frombuffer(b, t, count, at)
        at += a.nbytes
        yield a.reshape(n, k) if count == n * k else a


def llama(model_path, golden_path):
    """Asks a llama.cpp server in this process for the next token after every prefix of the text."""
    import xllamacpp
    tokens, lse, ids, kept = read(golden_path)
    params = xllamacpp.CommonParams()
    params.model.path, params.n_parallel, params.n_ctx, params.cpuparams.n_threads = model_path, 1, 512, 1
    server = xllamacpp.Server(params)
    # The server reports no probabilities for an incomplete character or the end of the text. So a plain token is
    # forced; the probabilities are those before the bias.
    plain = Model(model_path).tokens(" the")[-1]
    equal, total, worst = 0, 0.0, 0.0
    for i in range(len(tokens)):
        answer = server.handle_completions({"prompt": tokens[: i + 1].tolist(), "max_tokens": 1, "temperature": 1.0,
                                            "n_probs": 4 * KEPT, "cache_prompt": False, "samplers": [],
                                            "logit_bias": [[plain, 1000]]})
        first = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        theirs = {c["id"]: c["logprob"] for c in first}
        equal += first[0]["id"] == ids[i, 0]
        p = (kept[i] - lse[i]).astype(np.float64)
        floor = min(theirs.values())  # of the few that are not among their first
        q = np.array([theirs.get(int(t), floor) for t in ids[i]])
        rest = lambda v: max(1 - np.exp(v).sum(), 1e-12)
        kl = (np.exp(p) * (p - q)).sum() + rest(p) * np.log(rest(p) / rest(q))
        total, worst = total + kl, max(worst, kl)
    print(f"{model_path}: llama.cpp ({xllamacpp.BUILD_INFO}): greedy token equal at {equal} of {len(tokens)},"
          f" mean KL {total / len(tokens):.6f}, worst {worst:.6f}")


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in ("make", "llama"):
        sys.exit(__doc__)
    {"make": make, "llama": llama}[sys.argv[1]](sys.argv[2], sys.argv[3])
