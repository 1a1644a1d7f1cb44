#!/usr/bin/env python3
"""Measures the kernels beside what the machine itself can do, in the same run, and prints one table; bin/bench-kernels.json has it too.

usage: kernels.py [--time 100ms] [--only REGEXP]

Rates are the best of many short samples. Peaks are loops that do nothing else: fused multiply-adds, dots of bytes (VPDPBUSD, or VPMADDUBSW with
an addition of 16-bit sums; SDOT), reading from huge pages or from the second-level cache. Ratios are what to read: machines are shared and noisy.
"""
import argparse
import datetime
import json
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Groups of benchmarks, and the columns of each: the name of a metric of Go's output.
GROUPS = [
    ("prefill, one core, beside the peak of dots (of multiply-adds for float weights)", "GEMM", ["GOP/s", "peak-GOP/s", "of-peak"]),
    ("decode from the second-level cache and from memory, beside reading", "GEMV", ["GB/s", "peak-GB/s", "of-peak"]),
    ("some rows at once, weights in memory", "Batch", ["GOP/s", "x-one"]),
    ("products of SmolLM2-135M", "Model", ["tokens/s"]),
    ("one thread and two beside programs that spin", "Neighbours", ["t1-tokens/s", "t2-tokens/s", "t2-worst", "t2/t1"]),
    ("two programs on the same cores", "TwoProcesses", ["alone-tokens/s", "this-tokens/s", "other-tokens/s", "both/alone"]),
    ("an idle team", "Idle", ["%CPU-idle", "%CPU-100-calls/s"]),
    ("the longest stop of the world beside products", "StopTheWorld", ["us-longest", "us-mean"]),
    ("vectors", "Vector|Quantize", ["elem/ns"]),
]


def cpu_name():
    try:
        with open("/proc/cpuinfo") as f:
            text = f.read()
        for key in ("model name", "Model", "CPU part"):
            if m := re.search(rf"^{key}\s*:\s*(.*)", text, re.M):
                return m.group(1)
    except OSError:
        pass
    return "unknown CPU"


def about():
    """Who measures, when, beside what."""
    return {"cpu": cpu_name(), "cores": os.cpu_count(), "date": datetime.date.today().isoformat(), "load": round(os.getloadavg()[0], 1)}


def headline(a):
    return f"{a['cpu']}, {a['cores']} cores, {a['date']}, load {a['load']}"


def parse(line):
    """One line of Go's benchmarks: its name without "Benchmark" and "-2", and its metrics; None if it is none."""
    m = re.match(r"Benchmark(\S+?)(?:-\d+)?\s+\d+\s+(.*)", line)
    if not m:
        return None
    words = m.group(2).split()
    return m.group(1), {unit: float(x) for x, unit in zip(words[::2], words[1::2])}


def run(cmd, cwd=ROOT, env=None):
    """Runs benchmarks of Go and yields name and metrics as they come."""
    p = subprocess.Popen(cmd, cwd=cwd, env=env, stdout=subprocess.PIPE, text=True)
    rest = []
    for line in p.stdout:
        if got := parse(line):
            yield got
        else:
            rest.append(line)
    if p.wait():
        sys.exit(f"{' '.join(cmd)}:\n{''.join(rest)}")


def save(name, what):
    os.makedirs(os.path.join(ROOT, "bin"), exist_ok=True)
    path = os.path.join(ROOT, "bin", name)
    with open(path, "w") as f:
        json.dump(what, f, indent=1)
    print(f"\nwritten to {path}")


def main():
    p = argparse.ArgumentParser(description="Measures the kernels beside what the machine can do.")
    p.add_argument("--time", default="100ms", help="for each figure")
    p.add_argument("--only", default="", help="groups whose benchmark's name matches")
    a = p.parse_args()
    result = dict(about(), groups=[])
    print(headline(result))
    for title, bench, columns in GROUPS:
        if not re.search(a.only, bench):
            continue
        print(f"\n{title}\n{'':44}" + "".join(f"{c:>18}" for c in columns), flush=True)
        rows = []
        slow = bench in ("Neighbours", "TwoProcesses", "Idle")
        for name, got in run(["go", "test", "-run", "^$", "-bench", f"^Benchmark({bench})$", "-benchtime", "5x" if slow else a.time, "./kernels"]):
            rows.append(dict({"name": name}, **got))
            print(f"{name:44}" + "".join(f"{got.get(c, float('nan')):18.4g}" for c in columns), flush=True)
        result["groups"].append({"title": title, "rows": rows})
    save("bench-kernels.json", result)


if __name__ == "__main__":
    main()
