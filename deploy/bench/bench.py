#!/usr/bin/env python3
"""Measures nodes of this tree, and llama.cpp beside them, in one go: interleaved rounds, medians, ratios.

usage: bench.py [--peers] [--rounds N] [--model FILE]

  one node     prefill (512 tokens) and decode (128 tokens) with 1 and 2 threads
  two stages   the same model cut over two processes on loopback, each pinned to a core, against one process on one core
  memory       resident memory of a node against its blobs and KV cache
  --peers      llama.cpp's llama-bench with the same file and threads (see peers.py, which compares the engines without a node around them)

Nothing is asserted: machines are shared and noisy. Times are the node's own, as its API reports them.
"""
import argparse
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import urllib.request

import peers

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CACHE = os.environ.get("LAMINA_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lamina")
MODELS = os.environ.get("LAMINA_MODELS") or os.path.join(CACHE, "models")
LAMINA = os.path.join(ROOT, "bin", "lamina")
PROMPT, ANSWER = 512, 128


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Node:
    """A node process, pinned to cores."""

    def __init__(self, work, name, threads, cores, join=None):
        self.name, self.data = name, os.path.join(work, name)
        self.http, self.peer = (f"127.0.0.1:{free_port()}" for _ in range(2))
        env = {k: v for k, v in os.environ.items() if not k.startswith("LAMINA_")}
        self.log = open(os.path.join(work, name + ".log"), "w+")
        self.env = dict(env, LAMINA_ADDR="http://" + self.http, LAMINA_DATA=self.data)
        args = ["join", join] if join else ["up"]
        self.proc = subprocess.Popen(
            ["taskset", "-c", cores, LAMINA, *args, "--name", name, "--data", self.data, "--peer", self.peer, "--http", self.http,
             "--threads", str(threads), "--memory", "8GiB"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in self.proc.stderr:
            self.log.write(line)
            if line.startswith("ready"):
                break
        else:
            sys.exit(f"node {name} did not start; see {self.log.name}")

    def cli(self, *args):
        r = subprocess.run([LAMINA, *args], env=self.env, capture_output=True, text=True)
        if r.returncode:
            sys.exit(f"lamina {' '.join(args)}: {r.stderr}")
        return r.stdout

    def ask(self, tokens, answer):
        body = {"model": "m", "tokens": tokens, "options": {"max_tokens": answer, "temperature": 0, "ignore_eos": True}}
        req = urllib.request.Request(f"http://{self.http}/v1/infer", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(req, timeout=600) as r:
            return json.load(r)["timings"]

    def measure(self):
        """Tokens a second of prefill and decode."""
        prompt = [100 + i * 37 % 4000 for i in range(PROMPT)]
        prefill = PROMPT / self.ask(prompt, 1)["prefill_ms"] * 1000
        decode = ANSWER / self.ask(prompt[:8], ANSWER + 1)["decode_ms"] * 1000
        return {"prefill": prefill, "decode": decode}

    def rss(self):
        with open(f"/proc/{self.proc.pid}/status") as f:
            return int(re.search(r"VmRSS:\s+(\d+) kB", f.read()).group(1)) / 1024

    def stop(self):
        self.proc.send_signal(signal.SIGTERM)
        self.proc.stderr.read()
        self.proc.wait()


def rounds(n, subjects):
    """Runs each subject once a round, so that a noisy minute hits all; returns medians."""
    got = {name: [] for name in subjects}
    for i in range(n):
        for name, f in subjects.items():
            got[name].append(f())
            print(f"  round {i + 1}: {name:28} prefill {got[name][-1]['prefill']:8.1f}  decode {got[name][-1]['decode']:7.1f} tokens/s", flush=True)
    return {name: {k: statistics.median(x[k] for x in xs) for k in ("prefill", "decode")} for name, xs in got.items()}


def ratio(med, a, b):
    print(f"  {a} / {b}:  prefill {med[a]['prefill'] / med[b]['prefill']:.2f}  decode {med[a]['decode'] / med[b]['decode']:.2f}   (medians)")


def one_node(path, n, beside):
    for threads, cores in ((1, "0"), (2, "0,1")):
        print(f"\none node, {threads} thread{'s' if threads > 1 else ''}, {os.path.basename(path)}")
        with tempfile.TemporaryDirectory() as work:
            node = Node(work, "one", threads, cores)
            node.cli("add", "m", path)
            node.measure()
            subjects = {"lamina": node.measure}
            if beside:
                subjects["llama.cpp"] = lambda: peers.llama_quick(path, threads)
            med = rounds(n, subjects)
            if beside:
                ratio(med, "lamina", "llama.cpp")
            if threads == 1:
                memory(node, path)
            node.stop()


def memory(node, path):
    m = json.loads(node.cli("show", "m", "--json"))
    m = m["models"][0] if "models" in m else m
    blobs = m["bytes"] / 2**20
    print(f"  memory: resident {node.rss():.0f} MiB after {PROMPT} + {ANSWER} tokens; blobs {blobs:.0f} MiB; the rest, KV cache included, {node.rss() - blobs:.0f} MiB")


def two_stages(path, n):
    print(f"\ntwo stages on loopback, each pinned to a core, against one process on either core, {os.path.basename(path)}")
    with tempfile.TemporaryDirectory() as work:
        ones = [Node(work, f"one{core}", 1, str(core)) for core in (0, 1)]
        a = Node(work, "a", 1, "0")
        b = Node(work, "b", 1, "1", a.cli("token", "create").strip())
        a.cli("add", "m", path, "--stages", "2")
        for x in ones:
            x.cli("add", "m", path)
        for x in (*ones, a):
            x.measure()
        med = rounds(n, {"one stage, core 0": ones[0].measure, "one stage, core 1": ones[1].measure, "two stages": a.measure})
        # Cores of a shared machine differ; half of the layers on each takes the mean of their times.
        both = [med["one stage, core 0"], med["one stage, core 1"]]
        med["one stage"] = {k: statistics.harmonic_mean([x[k] for x in both]) for k in ("prefill", "decode")}
        ratio(med, "two stages", "one stage")
        for x in (*ones, a, b):
            x.stop()


def main():
    p = argparse.ArgumentParser(description="Measures nodes of this tree, and llama.cpp beside them.")
    p.add_argument("--peers", action="store_true")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--model", default=os.path.join(MODELS, "SmolLM2-135M-Instruct.Q4_1.gguf"))
    a = p.parse_args()
    if a.peers:
        peers.llama_dir()
    with open("/proc/cpuinfo") as f:
        cpu = re.search(r"model name\s*:\s*(.*)", f.read())
    print(f"{cpu.group(1) if cpu else 'unknown CPU'}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    one_node(a.model, a.rounds, a.peers)
    two_stages(a.model, a.rounds)


if __name__ == "__main__":
    main()
