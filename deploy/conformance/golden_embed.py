#!/usr/bin/env python3
"""Reference embeddings for the tests of shard/, and how far llama.cpp is from them.

  golden_embed.py make MODEL.gguf OUT.json     tokens and embeddings of the texts below by tokenizers and transformers
  golden_embed.py llama MODEL.gguf IN.json     llama.cpp's distance from them (needs the package xllamacpp)

For nomic-bert files: the weights go into transformers' NomicBertModel and are computed in float32; the embedding is the
mean of all rows, as the file says. Needs torch, transformers (5.24) and gguf. Not run by CI.
"""
import json
import sys

import numpy as np

TEXTS = [
    "search_query: Who wrote “Der Prozeß”?",
    "search_document: Franz Kafka's novel The Trial was published in 1925; 出版于柏林。",
    "search_document: " + "The cat sits on the mat, and the kitten sleeps on a rug beside the stove. " * 9,
]


def tokenizer(fields):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    vocab = {}
    for i, w in enumerate(fields["tokenizer.ggml.tokens"].contents()):
        special = w.startswith("[") and w.endswith("]")
        vocab[w if special else w[1:] if w.startswith("\u2581") else "##" + w] = i
    t = Tokenizer(models.WordPiece(vocab=vocab, unk_token="[UNK]"))
    t.normalizer, t.pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    return lambda text: [vocab["[CLS]"]] + t.encode(text, add_special_tokens=False).ids + [vocab["[SEP]"]]


def load(path):
    import torch
    import transformers as tf
    from gguf import GGUFReader
    from gguf.quants import dequantize
    r = GGUFReader(path)
    key = lambda k: r.fields["nomic-bert." + k].contents()
    c = tf.NomicBertConfig(
        vocab_size=len(r.fields["tokenizer.ggml.tokens"].contents()), hidden_size=key("embedding_length"),
        num_hidden_layers=key("block_count"), num_attention_heads=key("attention.head_count"),
        intermediate_size=key("feed_forward_length"), layer_norm_eps=key("attention.layer_norm_epsilon"),
        max_position_embeddings=key("context_length"), attn_implementation="eager",
        rope_parameters=dict(rope_type="default", rope_theta=key("rope.freq_base")))
    names = {"token_embd": "embeddings.word_embeddings", "token_types": "embeddings.token_type_embeddings",
             "token_embd_norm": "embeddings.LayerNorm", "attn_output_norm": "post_attention_layernorm",
             "layer_output_norm": "post_mlp_layernorm", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj",
             "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    state = {}
    for t in r.tensors:
        w = torch.tensor(np.asarray(dequantize(t.data, t.tensor_type), np.float32))
        *blk, name, kind = t.name.split(".")
        prefix = f"layers.{blk[1]}." if blk else ""
        if name == "attn_qkv":
            for which, part in zip("qkv", w.chunk(3)):
                state[f"{prefix}self_attn.{which}_proj.{kind}"] = part
        else:
            state[f"{prefix}{names[name]}.{kind}"] = w
    model = tf.NomicBertModel(c, add_pooling_layer=False).float().eval()
    model.load_state_dict(state)
    return r.fields, model


def make(path, out):
    import torch
    fields, model = load(path)
    tokens = [tokenizer(fields)(t) for t in TEXTS]
    with torch.no_grad():
        rows = [model(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0) for ids in tokens]
    golden = {"texts": TEXTS, "tokens": tokens, "embeddings": [[float(f"{x:.8g}") for x in e.tolist()] for e in rows]}
    with open(out, "w", encoding="utf-8") as f:
        json.dump(golden, f, ensure_ascii=False)
        f.write("\n")
    print(out, [len(t) for t in tokens])


def llama(path, golden):
    import xllamacpp
    p = xllamacpp.CommonParams()
    p.model.path, p.embedding, p.n_ctx, p.n_batch, p.n_ubatch, p.cpuparams.n_threads = path, True, 2048, 2048, 2048, 1
    server = xllamacpp.Server(p)
    with open(golden, encoding="utf-8") as f:
        g = json.load(f)
    for text, want in zip(g["texts"], g["embeddings"]):
        got = np.array(server.handle_embeddings({"input": text})["data"][0]["embedding"], np.float64)
        want = np.array(want)
        print(f"1 - cosine {1 - got @ want / np.linalg.norm(got) / np.linalg.norm(want):.3g}  {text[:40]!r}")


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in ("make", "llama"):
        sys.exit(__doc__)
    {"make": make, "llama": llama}[sys.argv[1]](sys.argv[2], sys.argv[3])
