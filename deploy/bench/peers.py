#!/usr/bin/env python3
"""Lamina's engine beside llama.cpp's own llama-bench: same file, same threads, runs interleaved, medians; one table, and bin/bench-peers.json.

usage: peers.py [--rounds N] [--threads 1,2] [--tests speed,batch] [MODEL...]     (names below, or files; default: all names that are there)

  speed   pp512 (prefill of 512 tokens) and tg128 (decode of 128 tokens from an empty cache), no sampling on either side
  batch   decode of 1, 2, 4, 8 and 16 sequences together, 32 tokens each after 64

llama.cpp is built for this CPU out of the Python index (llamacpp.sh), with flash attention on; each of its figures is the better of the two
ways that it has of holding weights, its default and --repack 0. Decode is also given as the share of what only reading the weights would allow, read in turns with it.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys

from kernels import ROOT, about, headline, run, save

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.environ.get("LAMINA_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lamina")
MODELS = os.environ.get("LAMINA_MODELS") or os.path.join(CACHE, "models")
# name -> (file, how it is made of another one if it is not there: type of llama-quantize, file)
NAMES = {
    "smollm2-q4_1": ("SmolLM2-135M-Instruct.Q4_1.gguf", None),
    "smollm2-q8_0": ("SmolLM2-135M-Instruct.Q8_0.gguf", ("Q8_0", "SmolLM2-135M-Instruct.Q4_1.gguf")),
    "smollm2-q4_0": ("SmolLM2-135M-Instruct.Q4_0.gguf", ("Q4_0", "SmolLM2-135M-Instruct.Q4_1.gguf")),
    "gemma-3-270m": ("gemma-3-270m-Q4_K_M.gguf", None),
    "qwen2.5-0.5b": ("qwen2.5-coder-0.5b-instruct-Q4_K_M.gguf", None),
    "qwen2.5-1.5b": ("qwen2.5-coder-1.5b-instruct-Q4_K_M.gguf", None),
}
BATCHES = (1, 2, 4, 8, 16)


def llama_dir():
    """The folder of llama.cpp's programs, which are built if need be."""
    return subprocess.run([os.path.join(HERE, "llamacpp.sh")], check=True, stdout=subprocess.PIPE, text=True).stdout.strip().splitlines()[-1]


def output(cmd):
    r = subprocess.run(cmd, capture_output=True, text=True)
    if r.returncode:
        sys.exit(f"{' '.join(cmd)}:\n{r.stderr}")
    return r.stdout


def llama_speed(bin_dir, path, threads):
    """tokens a second: {(test, variant): rate}"""
    got = {}
    out = output([os.path.join(bin_dir, "llama-bench"), "-m", path, "-t", str(threads), "-p", "512", "-n", "128", "-r", "1", "-fa", "on",
                  "--repack", "1,0", "-o", "json"])
    for r in json.loads(out):
        test = f"pp{r['n_prompt']}" if r["n_prompt"] else f"tg{r['n_gen']}"
        got[test, "default" if r["repack"] else "repack 0"] = r["avg_ts"]
    return got


def llama_batch(bin_dir, path, threads):
    got = {}
    for variant, flags in (("default", []), ("repack 0", ["-nr"])):
        out = output([os.path.join(bin_dir, "llama-batched-bench"), "-m", path, "-t", str(threads), "-c", "2048", "-npp", "64", "-ntg", "32",
                      "-npl", ",".join(map(str, BATCHES)), "-fa", "on", "--output-format", "jsonl", *flags])
        for line in out.splitlines():
            if line.startswith("{"):
                r = json.loads(line)
                got[f"batch{r['pl']}", variant] = r["speed_tg"]
    return got


def lamina(program, path, threads, tests):
    """The same of Lamina; of-read, the share of the read bandwidth, is under (test, "of-read")."""
    got = {}
    env = dict(os.environ, LAMINA_BENCH_MODEL=path)
    for name, m in run([program, "-test.run", "^$", "-test.benchtime", "1x", "-test.bench", f"^BenchmarkModel$/./^t{threads}$/^({tests})"], env=env):
        test = name.rsplit("/", 1)[1]
        got[test, "lamina"] = m["tok/s"]
        if "of-read" in m:
            got[test, "of-read"] = m["of-read"]
    return got


def llama_quick(path, threads):
    """Prefill and decode of llama.cpp, for bench.py: the better of its two ways."""
    r = llama_speed(llama_dir(), path, threads)
    return {"prefill": max(r["pp512", "default"], r["pp512", "repack 0"]), "decode": max(r["tg128", "default"], r["tg128", "repack 0"])}


def resolve(name, bin_dir):
    """The file of a model; None if it is not there and not made of one that is."""
    if name not in NAMES:
        return os.path.abspath(name)
    file, made = NAMES[name]
    path = os.path.join(MODELS, file)
    if not os.path.exists(path) and made and os.path.exists(os.path.join(MODELS, made[1])):
        output([os.path.join(bin_dir, "llama-quantize"), "--allow-requantize", os.path.join(MODELS, made[1]), path, made[0]])
    return path if os.path.exists(path) else None


def measure(bin_dir, program, path, threads, tests, rounds):
    """Medians over the rounds of each side, which take turns."""
    got = {}
    for _ in range(rounds):
        for part in tests:
            sides = ((lambda: lamina(program, path, threads, "pp512|tg128"), lambda: llama_speed(bin_dir, path, threads)) if part == "speed" else
                     (lambda: lamina(program, path, threads, "batch"), lambda: llama_batch(bin_dir, path, threads)))
            for side in sides:
                for key, rate in side().items():
                    got.setdefault(key, []).append(rate)
    return {key: statistics.median(x) for key, x in got.items()}


def table(model, threads, med):
    rows = []
    for test in dict.fromkeys(t for t, _ in med):
        ours, default, flat = (med.get((test, v)) for v in ("lamina", "default", "repack 0"))
        best = max(default, flat)
        rows.append({"model": model, "threads": threads, "test": test, "lamina": ours, "llama": default, "llama repack 0": flat, "ratio": ours / best,
                     "of read": med.get((test, "of-read"))})
        read = f"{rows[-1]['of read']:8.2f}" if rows[-1]["of read"] else ""
        print(f"{model:16}{threads:8}  {test:8}{ours:10.1f}{default:12.1f}{flat:12.1f}{ours / best:8.2f}{read}", flush=True)
    return rows


def main():
    p = argparse.ArgumentParser(description="Lamina's engine beside llama.cpp.")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--threads", default="1,2")
    p.add_argument("--tests", default="speed,batch")
    p.add_argument("models", nargs="*", default=list(NAMES))
    a = p.parse_args()
    bin_dir = llama_dir()
    program = os.path.join(ROOT, "bin", "shard.test")
    subprocess.run(["go", "test", "-c", "-o", program, "./shard"], cwd=ROOT, check=True)
    with open(os.path.join(HERE, "llamacpp.sh")) as f:
        version = "of llama-cpp-python " + re.search(r"^VERSION=(\S+)", f.read(), re.M).group(1)
    result = dict(about(), rounds=a.rounds, llama=version, rows=[])
    print(headline(result) + f", llama.cpp {version}, medians of {a.rounds}, tokens/s")
    print(f"{'model':16}{'threads':>8}  {'test':8}{'lamina':>10}{'llama.cpp':>12}{'repack 0':>12}{'ratio':>8}{'of read':>8}", flush=True)
    for name in a.models:
        path = resolve(name, bin_dir)
        if path is None:
            print(f"{name}: not there; make models models-more models-large brings it")
            continue
        for threads in map(int, a.threads.split(",")):
            result["rows"] += table(name, threads, measure(bin_dir, program, path, threads, a.tests.split(","), a.rounds))
    save("bench-peers.json", result)


if __name__ == "__main__":
    main()
