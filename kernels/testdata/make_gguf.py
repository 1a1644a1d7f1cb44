#!/usr/bin/env python3
"""Writes gguf.txt: rows of every weight type and what PyPI's gguf package (0.19.0) makes of them.

A line is: type, bytes of a row of 512 elements in hex, SHA-256 of the dequantised float32 (little
endian), and the first 64 of them in hex. Codes are random; scales are f16 of both signs and of sizes
from subnormal to 2, of MXFP4 powers of two.
"""
import hashlib
import os

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

COLS = 512
SCALES = {  # offsets of f16 scales in a block
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
    T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.F16: [0],
    T.Q2_K: [80, 82], T.Q3_K: [108], T.IQ4_NL: [0], T.IQ4_XS: [0],
}

rng = np.random.default_rng(7)
here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "gguf.txt"), "w") as out:
    for typ in [T.F32, T.BF16, *SCALES, T.MXFP4]:
        block, size = GGML_QUANT_SIZES[typ]
        raw = rng.integers(0, 256, (COLS // block, size), dtype=np.uint8)
        if typ == T.F32:
            raw = rng.standard_normal(COLS).astype("<f4").view(np.uint8).reshape(-1, size)
        if typ == T.BF16:
            raw = rng.standard_normal(COLS).astype("<f4").view("<u2")[1::2].copy().view(np.uint8).reshape(-1, size)
        if typ == T.MXFP4:  # the smallest and largest scales, and others; 255 stands for NaN
            raw[:, 0] = rng.permutation([0, 1, 2, 254, *rng.integers(90, 140, 12)])
        for at in SCALES.get(typ, []):
            half = rng.integers(0, 16 << 10, len(raw), dtype=np.uint16) | rng.integers(0, 2, len(raw), dtype=np.uint16) << 15
            raw[:, at:at + 2] = half.astype("<u2").view(np.uint8).reshape(-1, 2)
        val = np.ascontiguousarray(dequantize(raw.reshape(1, -1), typ).astype("<f4")).ravel()
        data = val.tobytes()
        print(typ.name, raw.tobytes().hex(), hashlib.sha256(data).hexdigest(), data[:256].hex(), file=out)
