#!/usr/bin/env python3
"""Turns what make soak has written (a line of JSON for each scenario) into the table of docs/reliability.md.

usage: table.py LAB.jsonl        prints the table
       table.py LAB.jsonl FILE   replaces what is between the two marks in FILE
"""
import json
import sys

BEGIN, END = "<!-- lab: begin -->", "<!-- lab: end -->"


def seconds(ms):
    return f"{ms / 1000:.2f} s" if ms >= 1000 else f"{ms} ms"


def row(r):
    name = r["scenario"]
    if name.startswith("stage "):
        return (f"a stage is {name[6:]}, 8 streams", f"{r['count']} times, {r['hit']} streams hit",
                f"longest pause of a stream: median {seconds(r['gap_ms_p50'])}, p99 {seconds(r['gap_ms_p99'])}, most {seconds(r['gap_ms_max'])} (undisturbed: up to {seconds(r['idle_gap_ms_max'])})")
    if name == "gateway killed":
        return ("the gateway is killed, 8 streams are resumed at other nodes", f"{r['count']} times, {r['streams']} streams",
                f"from the kill to the next token: median {seconds(r['next_token_ms_p50'])}, p99 {seconds(r['next_token_ms_p99'])}, most {seconds(r['next_token_ms_max'])}")
    if name == "all killed":
        return ("all nodes are killed at once and started", f"{r['count']} times", f"serves after: median {seconds(r['serves_ms_p50'])}, most {seconds(r['serves_ms_max'])}; models and keys unchanged")
    if name.startswith("network: "):
        return (f"between all nodes: {name[9:]}", f"{r['count']} streams", f"{r['tokens_s']:.0f} tokens/s in all; longest pause of a stream: median {seconds(r['gap_ms_p50'])}, most {seconds(r['gap_ms_max'])}")
    return (name, f"{r['count']} times", ", ".join(f"{k} {v}" for k, v in r.items() if k not in ("scenario", "count", "seed", "cpu", "cores", "date")))


def table(path):
    with open(path) as f:
        rows = [json.loads(line) for line in f]
    if not rows:
        sys.exit(f"{path} is empty; make soak writes it")
    first = rows[0]
    out = [f"{first['cpu']}, {first['cores']} cores for all nodes and clients, {first['date']}, seed {first['seed']}. SmolLM2-135M in two stages, each node with one thread.", "",
           "| what | how often | every answer was right, and |", "| --- | --- | --- |"]
    return "\n".join(out + [f"| {a} | {b} | {c} |" for a, b, c in map(row, rows)])


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    text = table(sys.argv[1])
    if len(sys.argv) == 2:
        print(text)
        return
    with open(sys.argv[2]) as f:
        page = f.read()
    if BEGIN not in page or END not in page:
        sys.exit(f"{sys.argv[2]} has not the marks {BEGIN} and {END}")
    head, rest = page.split(BEGIN, 1)
    with open(sys.argv[2], "w") as f:
        f.write(head + BEGIN + "\n" + text + "\n" + END + rest.split(END, 1)[1])


if __name__ == "__main__":
    main()
