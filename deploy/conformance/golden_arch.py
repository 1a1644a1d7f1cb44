#!/usr/bin/env python3
"""Tiny random models with the logits of the reference implementation, for the tests of shard/.

  golden_arch.py OUT_DIR [NAME...]     writes NAME.gguf; all of them without names

Each is made by transformers (class and config below), its weights random and rounded to float16, so that the GGUF holds
them exactly. The names of tensors are those of the gguf package. The logits, computed in float32 by torch, stand in the
file's own metadata: lamina.golden.tokens, and lamina.golden.logits (positions x vocabulary); for an encoder the
embedding in lamina.golden.embedding. Sequences are longer than a page of the cache (64), windows shorter.
Needs torch, transformers and gguf (PyPI; made with 2.9.1, 4.57.6 (nomic-bert: 5.24.0), 0.17.1). Not run by CI: the
files are in shard/testdata.
"""
import math
import os
import sys

import numpy as np
import torch
import transformers as tf
from gguf import MODEL_ARCH, GGUFWriter, PoolingType, get_tensor_name_map

VOCAB, POSITIONS = 48, 80
BASE = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_attention_heads=4, num_key_value_heads=2,
            num_hidden_layers=4, max_position_embeddings=256, rms_norm_eps=1e-5, bos_token_id=0, eos_token_id=1,
            pad_token_id=None, attn_implementation="eager", rope_theta=10000.0)

ENCODER = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_attention_heads=4, num_hidden_layers=3,
               max_position_embeddings=96, layer_norm_eps=1e-12, type_vocab_size=2, attn_implementation="eager")


def permute(w, heads):
    """Rows of a query or key from the two halves of a head to interleaved pairs, as GGUF's llama has them."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


class Maker:
    """What is common: names by the gguf package, all keys of a decoder."""

    def __init__(self, arch, config, model, extra=None, change=None):
        self.arch, self.config, self.model_class = arch, config, model
        self.extra, self.change = extra or (lambda w, c: None), change or (lambda name, w, c: [(name, w)])

    def tensors(self, model):
        c = self.config
        names = get_tensor_name_map(self.arch, c.num_hidden_layers)
        state = {k: v.detach().numpy() for k, v in model.state_dict().items()}
        if getattr(c, "tie_word_embeddings", False):
            state.pop("lm_head.weight", None)
        for name, w in state.items():
            for name, w in self.change(name, w, c):
                new = names.get_name(name, try_suffixes=(".weight", ".bias"))
                if new is None:
                    raise SystemExit(f"no GGUF name for {name}")
                yield new, w

    def write(self, path):
        torch.manual_seed(7)
        model = self.model_class(self.config).float().eval()
        randomize(model)
        tokens = np.random.default_rng(3).integers(0, VOCAB, POSITIONS)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor(tokens)[None]).logits[0].numpy()
        w, c = GGUFWriter(None, self.arch_name()), self.config
        w.add_string("general.name", "golden " + os.path.basename(path))
        w.add_block_count(c.num_hidden_layers)
        w.add_context_length(c.max_position_embeddings)
        w.add_embedding_length(c.hidden_size)
        w.add_feed_forward_length(c.intermediate_size)
        w.add_head_count(c.num_attention_heads)
        w.add_head_count_kv(c.num_key_value_heads)
        w.add_layer_norm_rms_eps(c.rms_norm_eps)
        w.add_rope_freq_base(c.rope_theta)
        w.add_vocab_size(VOCAB)
        if getattr(c, "head_dim", None):
            w.add_key_length(c.head_dim)
            w.add_value_length(c.head_dim)
        self.extra(w, c)
        w.add_array("lamina.golden.tokens", tokens.tolist())
        w.add_array("lamina.golden.logits", logits.astype(np.float32).flatten().tolist())
        finish(w, self.tensors(model), path)

    def arch_name(self):
        from gguf import MODEL_ARCH_NAMES
        return MODEL_ARCH_NAMES[self.arch]


class EncoderMaker(Maker):
    """Keys of an encoder; the golden is the pooled embedding."""

    def __init__(self, arch, config, model, pooling, extra=None, change=None):
        super().__init__(arch, config, model, extra, change)
        self.pooling = pooling

    def write(self, path):
        torch.manual_seed(7)
        model = self.model_class(self.config, add_pooling_layer=False).float().eval()
        randomize(model)
        tokens = np.random.default_rng(3).integers(0, VOCAB, POSITIONS)
        with torch.no_grad():
            rows = model(input_ids=torch.tensor(tokens)[None]).last_hidden_state[0]
        out = (rows.mean(0) if self.pooling == PoolingType.MEAN else rows[0]).numpy()
        w, c = GGUFWriter(None, self.arch_name()), self.config
        w.add_string("general.name", "golden " + os.path.basename(path))
        w.add_block_count(c.num_hidden_layers)
        w.add_context_length(c.max_position_embeddings)
        w.add_embedding_length(c.hidden_size)
        w.add_feed_forward_length(c.intermediate_size)
        w.add_head_count(c.num_attention_heads)
        w.add_layer_norm_eps(c.layer_norm_eps)
        w.add_causal_attention(False)
        w.add_pooling_type(self.pooling)
        w.add_token_type_count(c.type_vocab_size)
        w.add_vocab_size(VOCAB)
        self.extra(w, c)
        w.add_array("lamina.golden.tokens", tokens.tolist())
        w.add_array("lamina.golden.embedding", out.astype(np.float32).tolist())
        finish(w, self.tensors(model), path)


def randomize(model):
    """Weights that keep the size of what they are multiplied with, exact in float16."""
    for name, p in model.named_parameters():
        if p.dim() >= 2:
            fan = p.shape[1] if p.dim() == 3 else p.shape[-1]
            dev = 1.0 if "embed" in name else 1.5 / math.sqrt(fan)
        else:
            dev = 0.3
        offset = 1.0 if "norm" in name.lower() and name.endswith("weight") and not zero_centred(model) else 0.0
        with torch.no_grad():
            p.copy_((torch.randn_like(p) * dev + offset).half().float())


def zero_centred(model):
    """Gemma's norms multiply with 1 + weight."""
    return type(model).__name__.startswith("Gemma")


def finish(w, tensors, path):
    for name, x in tensors:
        x = np.ascontiguousarray(x)
        w.add_tensor(name, x.astype(np.float16 if x.ndim > 1 and not name.endswith("bias") else np.float32))
    w.write_header_to_file(path)
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    print(path, os.path.getsize(path))


def llama_like(name, w, c):
    if "q_proj" in name:
        w = permute(w, c.num_attention_heads)
    if "k_proj" in name:
        w = permute(w, c.num_key_value_heads)
    return [(name, w)]


def gemma(name, w, c):
    return [(name, w + 1 if name.endswith("norm.weight") else w)]


def window(w, c):
    w.add_sliding_window(c.sliding_window or 0)


def gemma2_keys(w, c):
    window(w, c)
    w.add_attn_logit_softcapping(c.attn_logit_softcapping)
    w.add_final_logit_softcapping(c.final_logit_softcapping)


def phi3_keys(w, c):
    window(w, c)
    w.add_rope_dimension_count(int(c.partial_rotary_factor * c.hidden_size // c.num_attention_heads))
    if c.rope_scaling:
        original = c.original_max_position_embeddings
        w.add_rope_scaling_orig_ctx_len(original)
        scale = c.max_position_embeddings / original
        w.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scale) / math.log(original)))
        for kind in ("long", "short"):
            w.add_tensor(f"rope_factors_{kind}.weight", np.array(c.rope_scaling[kind + "_factor"], np.float32))


def experts(w, c):
    w.add_expert_count(getattr(c, "num_experts", None) or c.num_local_experts)
    w.add_expert_used_count(c.num_experts_per_tok)
    w.add_expert_feed_forward_length(getattr(c, "moe_intermediate_size", None) or c.intermediate_size)


def stack():
    """Collects the matrices of experts until one is whole."""
    seen = {}

    def change(name, w, c):
        if ".experts." not in name:
            return [(name, w)]
        layer, rest = name.split(".experts.")
        number, which = rest.split(".", 1)
        group = seen.setdefault((layer, which), {})
        group[int(number)] = w
        if len(group) < c.num_experts:
            return []
        return [(f"{layer}.experts.{which}", np.stack([group[i] for i in range(c.num_experts)]))]
    return change


def gpt_oss_keys(w, c):
    window(w, c)
    experts(w, c)
    w.add_rope_scaling_type(__import__("gguf").RopeScalingType.YARN)
    w.add_rope_scaling_factor(c.rope_scaling["factor"])
    w.add_rope_scaling_orig_ctx_len(c.rope_scaling["original_max_position_embeddings"])


def gpt_oss(name, w, c):
    """Experts are stored [expert][in][out], gate and up in turn."""
    if name.endswith("gate_up_proj") or name.endswith("gate_up_proj_bias"):
        kind = ".bias" if name.endswith("bias") else ".weight"
        base = name.replace("gate_up_proj_bias", "").replace("gate_up_proj", "")
        w = w if kind == ".bias" else w.swapaxes(1, 2)
        return [(base + "gate_proj" + kind, w[:, 0::2]), (base + "up_proj" + kind, w[:, 1::2])]
    if name.endswith("down_proj"):
        return [(name + ".weight", w.swapaxes(1, 2))]
    if name.endswith("down_proj_bias"):
        return [(name.replace("down_proj_bias", "down_proj.bias"), w)]
    if name.endswith("sinks"):
        return [(name + ".weight", w)]
    return [(name, w)]


def nomic():
    """Names of transformers to those of the model's makers, query, key and value to one matrix."""
    seen = {}

    def change(name, w, c):
        for a, b in (("embeddings.LayerNorm", "emb_ln"), ("post_attention_layernorm", "norm1"), ("post_mlp_layernorm", "norm2"),
                     ("self_attn.o_proj", "attn.out_proj"), ("mlp.gate_proj", "mlp.fc12"), ("mlp.up_proj", "mlp.fc11"),
                     ("mlp.down_proj", "mlp.fc2"), ("layers.", "encoder.layers.")):
            name = name.replace(a, b)
        for which in "qkv":
            if f"{which}_proj" in name:
                layer = name.split(".self_attn")[0]
                seen.setdefault(layer, {})[which] = w
                return [(layer + ".attn.Wqkv.weight", np.concatenate([seen[layer][x] for x in "qkv"]))] if len(seen[layer]) == 3 else []
        return [(name, w)]
    return change


def long_rope():
    return dict(type="longrope", long_factor=[1.0 + 0.7 * i for i in range(3)], short_factor=[1.0, 1.05, 1.1])


MODELS = {
    "qwen3": lambda: Maker(MODEL_ARCH.QWEN3, tf.Qwen3Config(**BASE, head_dim=16, tie_word_embeddings=True), tf.Qwen3ForCausalLM),
    "mistral": lambda: Maker(MODEL_ARCH.LLAMA, tf.MistralConfig(**BASE, head_dim=16, sliding_window=9), tf.MistralForCausalLM,
                             window, llama_like),
    "gemma3": lambda: Maker(
        MODEL_ARCH.GEMMA3,
        tf.Gemma3TextConfig(**{**BASE, "num_hidden_layers": 7, "rope_theta": 1000000.0}, head_dim=16, sliding_window=7,
                            rope_local_base_freq=10000.0, query_pre_attn_scalar=16, sliding_window_pattern=6),
        tf.Gemma3ForCausalLM, window, gemma),
    "gemma2": lambda: Maker(
        MODEL_ARCH.GEMMA2,
        tf.Gemma2Config(**BASE, head_dim=16, sliding_window=11, query_pre_attn_scalar=16, attn_logit_softcapping=2.5,
                        final_logit_softcapping=4.0),
        tf.Gemma2ForCausalLM, gemma2_keys, gemma),
    "phi3": lambda: Maker(MODEL_ARCH.PHI3, tf.Phi3Config(**BASE, sliding_window=33, partial_rotary_factor=1.0),
                          tf.Phi3ForCausalLM, phi3_keys),
    "phi4": lambda: Maker(
        MODEL_ARCH.PHI3,
        tf.Phi3Config(**{**BASE, "num_attention_heads": 4, "num_key_value_heads": 2}, partial_rotary_factor=0.75, rope_scaling=long_rope(),
                      original_max_position_embeddings=32, tie_word_embeddings=True),
        tf.Phi3ForCausalLM, phi3_keys),
    "smollm3": lambda: Maker(
        MODEL_ARCH.SMOLLM3, tf.SmolLM3Config(**{**BASE, "num_hidden_layers": 5}, tie_word_embeddings=True), tf.SmolLM3ForCausalLM,
        change=llama_like),
    "qwen3moe": lambda: Maker(
        MODEL_ARCH.QWEN3MOE,
        tf.Qwen3MoeConfig(**{**BASE, "num_hidden_layers": 2}, head_dim=16, moe_intermediate_size=32, num_experts=6,
                          num_experts_per_tok=2, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[]),
        tf.Qwen3MoeForCausalLM, experts, stack()),
    "gpt-oss": lambda: Maker(
        MODEL_ARCH.GPT_OSS,
        tf.GptOssConfig(**{**BASE, "num_hidden_layers": 2, "intermediate_size": 32}, head_dim=16, sliding_window=10,
                        num_local_experts=5, num_experts_per_tok=2,
                        rope_scaling=dict(rope_type="yarn", factor=8.0, beta_fast=32.0, beta_slow=1.0, truncate=False,
                                          original_max_position_embeddings=32)),
        tf.GptOssForCausalLM, gpt_oss_keys, gpt_oss),
    "bert": lambda: EncoderMaker(MODEL_ARCH.BERT, tf.BertConfig(**ENCODER, hidden_act="gelu"), tf.BertModel, PoolingType.CLS),
    "nomic-bert": lambda: EncoderMaker(
        MODEL_ARCH.NOMIC_BERT, tf.NomicBertConfig(**ENCODER, rope_parameters=dict(rope_type="default", rope_theta=1000.0)),
        tf.NomicBertModel, PoolingType.MEAN, lambda w, c: w.add_rope_freq_base(1000.0), nomic()),
}


def main():
    if len(sys.argv) < 2 or set(sys.argv[2:]) - set(MODELS):
        sys.exit(__doc__)
    for name in sys.argv[2:] or MODELS:
        MODELS[name]().write(os.path.join(sys.argv[1], name + ".gguf"))


if __name__ == "__main__":
    main()
