"""What the benchmarks start: nodes, llama.cpp's servers, shares of CPU, and the load."""
import ctypes
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CACHE = os.environ.get("LAMINA_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lamina")
MODELS = os.environ.get("LAMINA_MODELS") or os.path.join(CACHE, "models")
LAMINA = os.environ.get("LAMINA_BIN") or os.path.join(ROOT, "bin", "lamina")
ENV = {k: v for k, v in os.environ.items() if not k.startswith("LAMINA_")}


LIBC = ctypes.CDLL(None)


def die_with_parent():
    """In a child: whatever ends this script ends what it started (PR_SET_PDEATHSIG)."""
    LIBC.prctl(1, signal.SIGKILL)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Lab:
    """Starts processes and ends them all, whatever happens."""

    def __init__(self, work):
        self.work, self.procs, self.logs, self.groups = work, [], [], []
        signal.signal(signal.SIGTERM, self.killed)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop(self.procs)
        for f in self.logs:
            f.close()
        for g in self.groups:
            g.close()

    def killed(self, *_):
        """Whoever ends this script may not wait for long."""
        for p in self.procs:
            p.kill()
        sys.exit(143)

    def stop(self, procs):
        for p in procs:
            if p.poll() is None:
                p.send_signal(signal.SIGTERM)
        for p in procs:
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        self.procs = [p for p in self.procs if p not in procs]

    def start(self, name, args, cores=None, group=None, ns=None):
        """A process, on cores ("0,1"), in a share of CPU, in a network namespace."""
        if cores:
            args = ["taskset", "-c", cores, *args]
        if group:
            args = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', group.procs, *args]
        if ns:
            args = ["ip", "netns", "exec", ns, *args]
        log = open(os.path.join(self.work, name + ".log"), "w")
        self.logs.append(log)
        p = subprocess.Popen(args, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=ENV, preexec_fn=die_with_parent)
        p.log = log.name
        self.procs.append(p)
        return p

    def node(self, name, threads, cores, join=None, ns=None, host="127.0.0.1", peer_port=None, group=None, flags=()):
        return Node(self, name, threads, cores, join, ns, host, peer_port, group, flags)

    def llama(self, path, threads, slots, cores=None, rpc=(), context=None):
        """llama-server with the settings of a careful user: every slot has room, flash attention as it chooses."""
        port = free_port()
        args = [os.path.join(llama_bin(), "llama-server"), "-m", path, "-t", str(threads), "-tb", str(threads), "-np", str(slots), "-c", str(context or slots * 256),
                "--host", "127.0.0.1", "--port", str(port)]
        if rpc:
            args += ["--rpc", ",".join(rpc), "-ngl", "99"]
        p = self.start(f"llama-server-{port}", args, cores)
        p.url = f"http://127.0.0.1:{port}"
        await_url(p, p.url + "/health")
        return p

    def rpc(self, core, host="127.0.0.1", port=None):
        port = port or free_port()
        p = self.start(f"rpc-{core}-{port}", [os.path.join(llama_bin(), "ggml-rpc-server"), "-t", "1", "-H", host, "-p", str(port)], core)
        p.addr = f"{host}:{port}"
        for _ in range(200):
            with socket.socket() as s:
                if s.connect_ex((host, port)) == 0:
                    return p
            time.sleep(0.05)
        sys.exit(f"ggml-rpc-server does not listen; see {p.log}")

    def share(self, name, percent):
        g = Share(name, percent)
        self.groups.append(g)
        return g


class Node:
    def __init__(self, lab, name, threads, cores, join, ns, host, peer_port, group, flags):
        self.lab, self.ns = lab, ns
        data = os.path.join(lab.work, name)
        http_addr = f"127.0.0.1:{free_port()}"
        self.peer = f"{host}:{peer_port or free_port()}"
        self.url = "http://" + http_addr
        self.env = dict(ENV, LAMINA_ADDR=self.url, LAMINA_DATA=data)
        args = [LAMINA, *(["join", join] if join else ["up"]), "--name", name, "--data", data, "--peer", self.peer, "--http", http_addr, "--threads", str(threads),
                "--memory", "4GiB", *flags]
        self.proc = lab.start(name, args, cores, group, ns)
        for _ in range(600):
            with open(self.proc.log) as f:
                if any(line.startswith("ready") for line in f):
                    return
            if self.proc.poll() is not None:
                break
            time.sleep(0.05)
        sys.exit(f"node {name} did not start; see {self.proc.log}:\n" + open(self.proc.log).read()[-2000:])

    def cli(self, *args):
        pre = ["ip", "netns", "exec", self.ns] if self.ns else []
        r = subprocess.run([*pre, LAMINA, *args], env=self.env, capture_output=True, text=True)
        if r.returncode:
            sys.exit(f"lamina {' '.join(args)}: {r.stderr}")
        return r.stdout.strip()

    def join_string(self):
        return self.cli("token", "create")

    def stop(self):
        self.lab.stop([self.proc])


class Share:
    """A share of CPU for processes: a control group with a quota, of version 1 or 2. Throttled every 5 ms, not every 100."""

    def __init__(self, name, percent):
        base = "/sys/fs/cgroup/cpu" if os.path.exists("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") else "/sys/fs/cgroup"
        self.path = f"{base}/lamina-bench-{os.getpid()}-{name}"
        os.makedirs(self.path)
        self.procs = self.path + "/cgroup.procs"
        try:
            if base.endswith("cpu"):
                self.write("cpu.cfs_period_us", 5000)
                self.write("cpu.cfs_quota_us", 50 * percent)
            else:
                self.write("cpu.max", f"{50 * percent} 5000")
        except OSError:
            os.rmdir(self.path)
            raise

    def write(self, name, value):
        with open(f"{self.path}/{name}", "w") as f:
            f.write(str(value))

    def close(self):
        for _ in range(40):
            try:
                return os.rmdir(self.path)
            except OSError:
                time.sleep(0.05)


class Collector:
    """Takes traces as an OpenTelemetry collector does, and drops them. It counts bytes, so that a run without any shows."""

    def __init__(self):
        self.bytes = 0
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                owner.bytes += len(self.rfile.read(int(self.headers.get("Content-Length", 0))))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()


def await_url(p, url):
    for _ in range(600):
        try:
            with urllib.request.urlopen(url, timeout=1) as r:
                if r.status == 200:
                    return
        except OSError:
            pass
        if p.poll() is not None:
            break
        time.sleep(0.05)
    sys.exit(f"{url} does not answer; see {p.log}:\n" + open(p.log).read()[-2000:])


def llama_bin():
    r = subprocess.run([os.path.join(HERE, "llamacpp.sh")], stdout=subprocess.PIPE, text=True)
    if r.returncode:
        sys.exit("llama.cpp could not be built; --no-peers leaves it out")
    return r.stdout.strip()


def load(url, *args, ns=None):
    """What lamina bench finds: a list of points."""
    pre = ["ip", "netns", "exec", ns] if ns else []
    r = subprocess.run([*pre, LAMINA, "bench", "--addr", url, "--json", "--max-errors", "1000000", *map(str, args)], env=ENV, capture_output=True, text=True)
    if r.returncode:
        sys.exit(f"lamina bench {url} {' '.join(map(str, args))}: {r.stderr}")
    points = json.loads(r.stdout)["points"]
    for p in points:  # the figures that tables are made of; not the curves
        p.pop("timeline", None)
        for k in ("ttft_ms", "gap_ms", "end_to_end_ms"):
            p[k].pop("curve", None)
    return points


def cpu_seconds(procs):
    """Seconds of CPU that processes have used."""
    total = 0
    for p in procs:
        with open(f"/proc/{p.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")
