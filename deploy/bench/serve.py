#!/usr/bin/env python3
"""Measures serving: Lamina and llama.cpp beside it, in one go, interleaved, medians and ratios. Loads are made by `lamina bench`.

usage: serve.py [--only PART,...] [--rounds N] [--no-peers] [--model FILE] [--out FILE]

  streams   one node of two threads at 1 to 64 streams, beside llama-server
  two       two nodes of one core each, the model cut in two, beside one node on one core, and llama-server before two ggml-rpc-server -t 1
  prefill   a prompt of 2,000 tokens on 1, 2 and 4 stages, each with half a core (control groups; needs root)
  delay     two nodes 0 to 50 ms apart, one way (network namespaces and a proxy; needs root)
  prefix    the first token after a shared beginning of 512 tokens, new and known
  tracing   two nodes with traces on and off

Figures go to FILE as JSON too (default: bench/serve.json in the cache folder); parts that were not run keep what is there. Nothing is asserted: machines are shared and noisy.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

import lab as L

PROMPT, ANSWER = 85, 64
SAMPLED = ["--temperature", "0.8", "--top-k", "40", "--top-p", "0.95", "--min-p", "0.05", "--field", "seed=7"]  # the same for all, and repeatable


def figures(p):
    """One line's figures of a load."""
    return {"out": p["out_tokens_per_second"], "in": p["in_tokens_per_second"], "ttft50": p["ttft_ms"]["p50"], "ttft99": p["ttft_ms"]["p99"], "gap50": p["gap_ms"]["p50"],
            "gap99": p["gap_ms"]["p99"], "token": p["per_token_ms"]["p50"], "failed": p["failed"], "requests": p["requests"], "digest": p.get("answers_digest", "")}


def ask(url, streams, requests, seed, prompt=PROMPT, answer=ANSWER, ns=None, more=()):
    return figures(L.load(url, "-c", streams, "-n", requests, "--prompt", prompt, "--answer", answer, "--seed", seed,
                          *SAMPLED, *(more or ["--fresh-conns"]), ns=ns)[0])


def rounds(n, subjects, show=("out", "ttft50", "ttft99", "gap50")):
    """Runs each subject once a round, so that a noisy minute hits all. Each round has its own seed, equal for all subjects."""
    got = {name: [] for name in subjects}
    for i in range(n):
        for name, f in subjects.items():
            x = f(1000 + i)
            got[name].append(x)
            print(f"    {i + 1} {name:34} " + "  ".join(f"{k} {x[k]:8.1f}" for k in show) + (f"  FAILED {x['failed']} of {x['requests']}" if x["failed"] else ""), flush=True)
    med = {name: {k: statistics.median(x[k] for x in xs) for k in xs[0] if k != "digest"} for name, xs in got.items()}
    for name, xs in got.items():
        med[name]["failed"], med[name]["requests"] = sum(x["failed"] for x in xs), sum(x["requests"] for x in xs)
    return med, got


def same(got, a, b):
    """Whether two subjects gave the same answers to the same questions."""
    return all(x["digest"] == y["digest"] for x, y in zip(got[a], got[b]))


def ratio(med, a, b, *keys):
    print(f"    {a} / {b}: " + "  ".join(f"{k} {med[a][k] / max(med[b][k], 1e-9):.2f}" for k in keys))


def streams(a):
    """One node of two threads, beside llama-server."""
    out = {}
    with tempfile.TemporaryDirectory() as work, L.Lab(work) as lab:
        node = lab.node("one", 2, "0,1")
        node.cli("add", "m", a.model)
        few = many = None
        if a.peers:
            few, many = lab.llama(a.model, 2, 16, "0,1"), lab.llama(a.model, 2, 64, "0,1")
        for c in a.streams:
            print(f"\n  {c} stream{'s' if c > 1 else ''}")
            n = {1: 6, 4: 12}.get(c, 2 * c if c < 64 else c)
            subjects = {"lamina": lambda s: ask(node.url, c, n, s)}
            if a.peers:
                peer = few if c <= 16 else many
                subjects["llama-server"] = lambda s: ask(peer.url, c, n, s)
            med, _ = rounds(a.rounds, subjects)
            out[str(c)] = med
            if a.peers:
                ratio(med, "lamina", "llama-server", "out", "ttft50", "ttft99", "gap50")
        # llama-server closes a connection after a streamed answer, so figures above are of new connections; clients keep theirs.
        print("\n  8 streams, kept connections")
        kept = {"lamina": lambda s: ask(node.url, 8, 48, s, answer=16, more=["--warmup", "8"])}
        if a.peers:
            kept["llama-server"] = lambda s: ask(few.url, 8, 48, s, answer=16, more=["--warmup", "8"])
        out["kept"], _ = rounds(1, kept)
    return out


def busy(procs, f):
    """What f finds, and how much of the wall time each process was on a CPU."""
    def measured(seed):
        before, begun = [L.cpu_seconds([p]) for p in procs], time.monotonic()
        x = f(seed)
        wall = time.monotonic() - begun
        for i, p in enumerate(procs):
            x[f"busy{i}"] = 100 * (L.cpu_seconds([p]) - before[i]) / wall
        return x
    return measured


def two(a):
    """Two nodes of a core each against one node on a core, and llama.cpp's two RPC workers."""
    out = {}
    with tempfile.TemporaryDirectory() as work, L.Lab(work) as lab:
        ones = [lab.node(f"one{core}", 1, str(core)) for core in (0, 1)]
        for x in ones:
            x.cli("add", "m", a.model)
        first = lab.node("a", 1, "0")
        second = lab.node("b", 1, "1", join=first.join_string())
        first.cli("add", "m", a.model, "--stages", "2")
        head = None
        if a.peers:
            workers = [lab.rpc(str(core)) for core in (0, 1)]
            head = lab.llama(a.model, 1, 16, rpc=[w.addr for w in workers])
        for c in [c for c in (1, 16) if c in a.streams]:
            print(f"\n  {c} stream{'s' if c > 1 else ''}")
            n = 6 if c == 1 else 2 * c
            subjects = {f"one node on core {core}": lambda s, x=x: ask(x.url, c, n, s) for core, x in enumerate(ones)}
            subjects["two nodes"] = busy([first.proc, second.proc], lambda s: ask(first.url, c, n, s))
            if a.peers:
                subjects["llama-server, 2 rpc workers"] = busy([w for w in workers], lambda s: ask(head.url, c, n if c == 1 else c, s))
            med, got = rounds(a.rounds, subjects)
            both = [med[f"one node on core {core}"] for core in (0, 1)]
            med["one node"] = {k: statistics.mean(x[k] for x in both) for k in both[0]}
            for k in ("out", "in"):  # half of the layers on each core takes the mean of their times
                med["one node"][k] = statistics.harmonic_mean([x[k] for x in both])
            out[str(c)] = med
            ratio(med, "two nodes", "one node", "out", "token", "ttft50")
            t = med["two nodes"]
            print(f"    two nodes: a token takes {t['token']:.2f} ms, in one node {med['one node']['token']:.2f}; cores busy {t['busy0']:.0f} % and {t['busy1']:.0f} % of the whole run")
            med["same bits"] = same(got, "two nodes", "one node on core 0")
            print(f"    the same answers as one node gives: {'yes' if med['same bits'] else 'NO'}")
            if a.peers:
                ratio(med, "two nodes", "llama-server, 2 rpc workers", "out", "token", "ttft50")
    return out


def prefill(a):
    """A long prompt on 1, 2 and 4 stages of half a core each."""
    out = {}
    with tempfile.TemporaryDirectory() as work, L.Lab(work) as lab:
        try:
            shares = {(s, i): lab.share(f"{s}-{i}", 50) for s in (1, 2, 4) for i in range(s)}
        except OSError as e:
            print(f"  left out: no control groups with a quota here ({e})")
            return None
        heads = {}
        for s in (1, 2, 4):
            join = None
            for i in range(s):
                n = lab.node(f"s{s}n{i}", 1, str(i % 2), join=join and heads[s].join_string(), group=shares[s, i])
                if not join:
                    heads[s], join = n, True
            heads[s].cli("add", "m", a.model, "--stages", str(s))

        def measure(node):
            def f(seed):
                return ask(node.url, 1, 1, seed, prompt=2000, answer=2, more=("--warmup", "0", "--fresh-conns"))
            return f
        med, got = rounds(a.rounds, {f"{s} stage{'s' if s > 1 else ''}": measure(heads[s]) for s in (1, 2, 4)}, show=("ttft50",))
        for s in ("2 stages", "4 stages"):
            print(f"    {s}: {med['1 stage']['ttft50'] / med[s]['ttft50']:.2f} times as fast as one; the same answers: {'yes' if same(got, s, '1 stage') else 'NO'}")
        out = med
    return out


def delay(a):
    """Two nodes some milliseconds apart: a token may cost two delays more than at none."""
    if os.geteuid():
        print("  left out: network namespaces need root")
        return None
    import proxy
    out = {}
    port = 7946
    ns = proxy.Namespaces(str(os.getpid()))
    try:
        with tempfile.TemporaryDirectory() as work, L.Lab(work) as lab:
            p = proxy.Proxy(ns, port)
            solo = lab.node("solo", 1, "0")
            solo.cli("add", "m", a.model)
            first = lab.node("a", 1, "0", ns=ns.names[0], host=ns.addrs[0], peer_port=port)
            second = lab.node("b", 1, "1", join=first.join_string(), ns=ns.names[1], host=ns.addrs[1], peer_port=port)
            first.cli("add", "m", a.model, "--stages", "2")
            rpc = remote_rpc(a, lab, ns) if a.peers else None
            for ms in (0, 1, 5, 20, 50):
                p.delay = ms / 1000
                near, far = "one node", f"two nodes, {ms} ms apart"
                subjects = {near: lambda s: ask(solo.url, 1, 2, s, prompt=40, answer=24), far: lambda s: ask(first.url, 1, 2, s, prompt=40, answer=24, ns=ns.names[0])}
                if rpc:
                    rpc[1].delay = p.delay
                    subjects["llama-server, 2 rpc workers"] = lambda s: ask(rpc[0].url, 1, 2, s, prompt=40, answer=24, ns=ns.names[0])
                med, got = rounds(a.rounds, subjects, show=("token", "ttft50"))
                over = med[far]["token"] - med[near]["token"] - 2 * ms
                bits = same(got, near, far)
                print(f"    {ms} ms: a token takes {med[far]['token']:.2f} ms = {med[near]['token']:.2f} alone + 2 x {ms} + {over:.2f}; the same answers: {'yes' if bits else 'NO'}")
                out[str(ms)] = {"over": over, "same bits": bits, **med}
            for x in (p, *(rpc or ())[1:]):
                x.close()
            lab.stop(list(lab.procs))
    finally:
        ns.close()
    return out


def remote_rpc(a, lab, ns):
    """llama.cpp on the same two machines: llama-server and a worker in one namespace, a worker in the other. Returns the server and its proxy."""
    import proxy
    port = 50052
    p = proxy.Proxy(ns, port)
    proxy.enter(ns.fds[1])
    try:
        far = lab.rpc("1", ns.addrs[1], port)
        proxy.enter(ns.fds[0])
        near = lab.rpc("0")
        return lab.llama(a.model, 1, 4, rpc=[near.addr, far.addr], context=4096), p
    finally:
        proxy.enter(ns.home)


def prefix(a):
    """The first token after a shared beginning of 512 tokens."""
    out = {}
    with tempfile.TemporaryDirectory() as work, L.Lab(work) as lab:
        node = lab.node("one", 2, "0,1")
        node.cli("add", "m", a.model)
        urls = {"lamina": node.url}
        if a.peers:
            urls["llama-server"] = lab.llama(a.model, 2, 4, "0,1", context=4 * 1024).url
        for name, url in urls.items():
            colds, warms = [], []
            for i in range(a.rounds):
                x = L.load(url, "-c", 1, "-n", 16, "--prompt", 40, "--prefix", 512, "--groups", 3, "--answer", 4, "--seed", 50 + i, *SAMPLED)[0]
                colds.append(x["ttft_fresh_ms"]["p50"])
                warms.append(x["ttft_reused_ms"]["p50"])
            cold, warm = statistics.median(colds), statistics.median(warms)
            print(f"    {name:14} new {cold:7.1f} ms, known {warm:7.1f} ms: {cold / warm:.1f} times shorter")
            out[name] = {"cold": cold, "warm": warm, "ratio": cold / warm}
    return out


def tracing(a):
    """Traces on against off, two nodes each."""
    out = {}
    collector = L.Collector()
    with tempfile.TemporaryDirectory() as work, L.Lab(work) as lab:
        heads = {}
        for name, flags in (("off", ()), ("on", ("--otlp", collector.url))):
            first = lab.node(f"{name}-a", 1, "0", flags=flags)
            lab.node(f"{name}-b", 1, "1", join=first.join_string(), flags=flags)
            first.cli("add", "m", a.model, "--stages", "2")
            heads[name] = first
        for c in (1, 8):
            print(f"\n  {c} stream{'s' if c > 1 else ''}")
            subjects = {f"traces {k}": lambda s, n=n: ask(n.url, c, 6 if c == 1 else 16, s) for k, n in heads.items()}
            med, got = rounds(2 * a.rounds + 1, subjects)
            cost = 100 * (1 - statistics.median(on["out"] / off["out"] for on, off in zip(got["traces on"], got["traces off"])))
            out[str(c)] = {**med, "cost in percent": cost}
            print(f"    traces on: {cost:.1f} % fewer tokens a second (median of the rounds)")
        time.sleep(6)  # the last spans leave in batches
        if collector.bytes == 0:
            sys.exit("no traces came: the comparison is void")
        out["bytes"] = collector.bytes
    collector.close()
    return out


PARTS = {"streams": streams, "two": two, "prefill": prefill, "delay": delay, "prefix": prefix, "tracing": tracing}


def q4_0(path):
    """SmolLM2 in Q4_0, the type llama.cpp is fastest in, made by its own tool of the file in Q4_1."""
    to = os.path.join(L.CACHE, "peers", "SmolLM2-135M-Instruct.Q4_0.gguf")
    if not os.path.exists(to):
        subprocess.run([os.path.join(L.llama_bin(), "llama-quantize"), "--allow-requantize", path, to + ".part", "Q4_0"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.rename(to + ".part", to)
    return to


def main():
    p = argparse.ArgumentParser(description="Measures serving, llama.cpp beside it.")
    p.add_argument("--only", default=",".join(PARTS))
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--no-peers", dest="peers", action="store_false")
    p.add_argument("--model")
    p.add_argument("--streams", type=lambda s: [int(x) for x in s.split(",")], default=[1, 4, 8, 16, 64])
    p.add_argument("--out", default=os.path.join(L.CACHE, "bench", "serve.json"))
    a = p.parse_args()
    smol = os.path.join(L.MODELS, "SmolLM2-135M-Instruct.Q4_1.gguf")
    a.model = a.model or (q4_0(smol) if a.peers else smol)
    with open("/proc/cpuinfo") as f:
        cpu = re.search(r"model name\s*:\s*(.*)", f.read())
    commit = subprocess.run(["git", "-C", L.ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    about = {"at": time.strftime("%Y-%m-%d %H:%M"), "cpu": cpu.group(1) if cpu else "unknown CPU", "cores": os.cpu_count(), "load": os.getloadavg()[0], "model": os.path.basename(a.model),
             "commit": commit, "rounds": a.rounds}
    print(f"{about['cpu']}, {about['cores']} cores, load {about['load']:.1f}, {about['model']}, lamina {commit}")
    try:
        with open(a.out) as f:
            kept = json.load(f)
    except (OSError, ValueError):
        kept = {}
    for name in a.only.split(","):
        begun = time.monotonic()
        print(f"\n{name}: {PARTS[name].__doc__}", flush=True)
        found = PARTS[name](a)
        if found is not None:
            kept[name] = {**about, "seconds": time.monotonic() - begun, "figures": found}
        os.makedirs(os.path.dirname(os.path.abspath(a.out)), exist_ok=True)
        with open(a.out, "w") as f:
            json.dump(kept, f, indent=1)
        print(f"  {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
