#!/usr/bin/env python3
"""The float kernels beside onnxruntime, one thread each, layer by layer and in turn.

    python3 -m venv DIR && DIR/bin/pip install onnxruntime onnx numpy
    DIR/bin/python deploy/bench/float.py [--rounds 5] [--only TEXT]

Builds the benchmarks of ./kernels once, then for each layer runs onnxruntime and the kernels in turn and prints the
medians of the rounds, each round being the best of many samples. Layouts are each side's own: ours are channels last; onnxruntime
turns its blocked layout to and from NCHW around a single layer, which it would not do inside of a network: the second figure of it
has the layer eight times in a row, one eighth of the difference to once.
"""
import argparse
import os
import re
import statistics
import subprocess
import tempfile
import time

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
RNG = np.random.default_rng(1)


def normal(*shape):
    return (RNG.standard_normal(shape) / 16).astype(np.float32)


def session(nodes, inputs, outputs, weights):
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs]
    outs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs]
    init = [onnx.numpy_helper.from_array(w, n) for n, w in weights.items()]
    model = helper.make_model(helper.make_graph(nodes, "g", info, outs, init), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    o = ort.SessionOptions()
    o.intra_op_num_threads = o.inter_op_num_threads = 1
    s = ort.InferenceSession(model.SerializeToString(), o, providers=["CPUExecutionProvider"])
    feed = {n: normal(*shape) for n, shape in inputs}
    return lambda: s.run(None, feed)


def gemm(m, n, k):
    run = session([helper.make_node("MatMul", ["x", "w"], ["y"])], [("x", (m, k))], ["y"], {"w": normal(k, n)})
    return run, 2 * m * n * k


def conv(size, cin, cout, kernel, stride, groups, times=1):
    nodes, weights = [], {"low": np.float32(0), "high": np.float32(6)}
    for i in range(times):
        weights[f"w{i}"], weights[f"b{i}"] = normal(cout, cin // groups, kernel, kernel), normal(cout)
        nodes.append(helper.make_node("Conv", [f"x{i}", f"w{i}", f"b{i}"], [f"c{i}"], pads=[kernel // 2] * 4, strides=[stride] * 2, group=groups))
        nodes.append(helper.make_node("Clip", [f"c{i}", "low", "high"], [f"x{i+1}"]))
    run = session(nodes, [("x0", (1, cin, size, size))], [f"x{times}"], weights)
    out = (size + 2 * (kernel // 2) - kernel) // stride + 1
    return run, 2 * out * out * cout * cin // groups * kernel * kernel


def rnn(kind, hidden, steps):
    """The whole operator over some steps; the kernels take one step without the input's product, so 2 lengths are compared."""
    gates = 4 if kind == "LSTM" else 3
    weights = {"w": normal(1, gates * hidden, 1), "r": normal(1, gates * hidden, hidden)}
    extra = {} if kind == "LSTM" else {"linear_before_reset": 1}
    return session([helper.make_node(kind, ["x", "w", "r"], ["y"], hidden_size=hidden, **extra)], [("x", (steps, 1, 1))], ["y"], weights)


def best(run, seconds=0.25):
    """The shortest of as many samples as fit some time, three at least."""
    run()
    end, top, n = time.perf_counter() + seconds, 1e9, 0
    while n < 3 or time.perf_counter() < end:
        t = time.perf_counter()
        run()
        top, n = min(top, time.perf_counter() - t), n + 1
    return top


class Ours:
    def __init__(self):
        self.bin = os.path.join(tempfile.mkdtemp(), "kernels.test")
        subprocess.run(["go", "test", "-c", "-o", self.bin, "./kernels"], cwd=ROOT, check=True)

    def rate(self, name):
        """GFLOP/s and percent of the peak loop of a benchmark."""
        pattern = "/".join(f"^{p}$" for p in name.split("/"))
        out = subprocess.run([self.bin, "-test.run", "^$", "-test.bench", pattern, "-test.benchtime", "150ms"],
                             cwd=os.path.join(ROOT, "kernels"), check=True, capture_output=True, text=True).stdout
        peak, rate = (re.findall(r"([\d.]+) %s" % u, out) for u in ("%peak", "GFLOP/s"))
        return float(rate[-1]), float(peak[-1])


def layers():
    for m, n, k in [(504, 1536, 576), (256,) * 3, (512,) * 3, (1024,) * 3, (64, 512, 512), (16, 512, 512), (4, 512, 512), (1, 512, 512), (1, 1024, 1024)]:
        yield f"BenchmarkFloatGEMM/{m}x{n}x{k}", lambda m=m, n=n, k=k: [gemm(m, n, k)]
    for s, i, o, k, st, g in [
        (56, 64, 64, 3, 1, 1), (28, 128, 128, 3, 1, 1), (14, 256, 256, 3, 1, 1), (7, 512, 512, 3, 1, 1), (224, 3, 64, 7, 2, 1), (224, 3, 32, 3, 2, 1),
        (56, 64, 256, 1, 1, 1), (56, 128, 128, 1, 1, 1), (14, 512, 512, 1, 1, 1), (7, 1024, 1024, 1, 1, 1),
        (112, 32, 32, 3, 1, 32), (56, 128, 128, 3, 1, 128), (28, 256, 256, 3, 1, 256), (14, 512, 512, 3, 1, 512), (14, 72, 72, 5, 1, 72)]:
        def both(a=(s, i, o, k, st, g)):
            chain = [conv(*a, times=9)] if a[1] == a[2] and a[4] == 1 else []
            return [conv(*a)] + chain
        yield f"BenchmarkConv/{s}x{s}x{i}/{o}/k{k}s{st}g{g}", both
    for kind in ("LSTM", "GRU"):
        for h in (128, 256, 512):
            yield f"BenchmarkRNN/{kind}/{h}", lambda kind=kind, h=h: [(rnn(kind, h, 8), 0), (rnn(kind, h, 72), 64 * 2 * (4 if kind == "LSTM" else 3) * h * h)]


def theirs(runs):
    """GFLOP/s of a layer by itself, and within a chain of them if there is one."""
    times = [best(run) for run, _ in runs]
    if runs[0][1] == 0:  # steps of a recurrent network: the difference
        return [runs[1][1] / (times[1] - times[0]) / 1e9]
    rates = [runs[0][1] / times[0] / 1e9]
    if len(times) > 1:
        rates.append(8 * runs[0][1] / max(times[1] - times[0], 1e-9) / 1e9)
    return rates


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--only", default="", help="layers whose name holds this")
    args = p.parse_args()
    ours = Ours()
    print(f"onnxruntime {ort.__version__}, 1 thread, GFLOP/s, medians of {args.rounds} rounds\n")
    print("| layer | ours | % of peak | onnxruntime | in a chain | ratio |\n| --- | --- | --- | --- | --- | --- |")
    for name, make in layers():
        if args.only not in name:
            continue
        runs, mine, other = make(), [], []
        for _ in range(args.rounds):
            other.append(theirs(runs))
            mine.append(ours.rate(name))
        rate, peak = (statistics.median(x) for x in zip(*mine))
        rates = [statistics.median(x) for x in zip(*other)]
        chain = f"{rates[1]:.1f}" if len(rates) > 1 else ""
        print(f"| {name.removeprefix('Benchmark')} | {rate:.1f} | {peak:.0f} | {rates[0]:.1f} | {chain} | {rate / max(rates):.2f} |", flush=True)


main()
