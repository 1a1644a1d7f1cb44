"""A delay between two nodes, in user space: every byte and packet arrives so many milliseconds after it was sent, in order.

Two network namespaces have each other's address on their own loopback, where this proxy listens: a node that speaks to its peer speaks to the
proxy, which speaks to the peer from the first node's address in the other namespace. TCP and UDP of one port, both ways. Needs root.
"""
import ctypes
import os
import queue
import socket
import subprocess
import threading
import time

LIBC = ctypes.CDLL(None, use_errno=True)


class Namespaces:
    """Two namespaces, a and b, with one address each, and in each a stand-in for the other's address."""

    def __init__(self, tag):
        self.names = [f"lamina-{tag}-a", f"lamina-{tag}-b"]
        self.addrs = ["10.77.0.1", "10.77.0.2"]
        self.home = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.fds = []
        for n in self.names:
            subprocess.run(["ip", "netns", "add", n], check=True)
            for a in self.addrs:
                subprocess.run(["ip", "-n", n, "addr", "add", a + "/32", "dev", "lo"], check=True)
            subprocess.run(["ip", "-n", n, "link", "set", "lo", "up"], check=True)
            self.fds.append(os.open(f"/run/netns/{n}", os.O_RDONLY))

    def socket(self, side, kind):
        """A socket of the namespace a (0) or b (1). Only the calling thread moves there and back."""
        enter(self.fds[side])
        try:
            return socket.socket(socket.AF_INET, kind)
        finally:
            enter(self.home)

    def close(self):
        for fd in [*self.fds, self.home]:
            os.close(fd)
        for n in self.names:
            subprocess.run(["ip", "netns", "del", n], check=False)


def enter(fd):
    if LIBC.setns(fd, 0x40000000):  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "setns")


class Proxy:
    """Carries the port between the nodes of two namespaces. delay (seconds, one way) may change at any time."""

    def __init__(self, ns, port):
        self.ns, self.port, self.delay, self.open = ns, port, 0.0, True
        self.sockets, self.lock = [], threading.Lock()
        udp = []
        for side in (0, 1):
            peer = ns.addrs[1 - side]  # who seems to listen here
            tcp = self.keep(ns.socket(side, socket.SOCK_STREAM))
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind((peer, port))
            tcp.listen(64)
            self.thread(self.accept, tcp, side)
            udp.append(self.keep(ns.socket(side, socket.SOCK_DGRAM)))
            udp[side].bind((peer, port))
        for side in (0, 1):
            # A packet to the stand-in of the peer leaves, in the peer's namespace, from the stand-in of its sender.
            to = (ns.addrs[1 - side], port)
            self.pipe(lambda s=udp[side]: s.recvfrom(65535)[0], lambda data, s=udp[1 - side], to=to: s.sendto(data, to), packets=True)

    def keep(self, s):
        with self.lock:
            self.sockets.append(s)
        return s

    def thread(self, f, *args):
        threading.Thread(target=f, args=args, daemon=True).start()

    def accept(self, listener, side):
        while self.open:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = self.ns.socket(1 - side, socket.SOCK_STREAM)
            try:
                far.bind((self.ns.addrs[side], 0))
                far.connect((self.ns.addrs[1 - side], self.port))
            except OSError:
                near.close()
                continue
            for s in (near, far):
                self.keep(s).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.stream(near, far)
            self.stream(far, near)

    def stream(self, a, b):
        def end():
            for s in (a, b):
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self.pipe(lambda: a.recv(1 << 18), b.sendall, end=end)

    def pipe(self, receive, send, packets=False, end=lambda: None):
        """Two threads: one stamps what comes, one lets it go when its time has come."""
        line = queue.SimpleQueue()

        def take():
            while self.open:
                try:
                    data = receive()
                except OSError:
                    data = b""
                line.put((time.monotonic() + self.delay, data))
                if not data and not packets or not self.open:
                    return

        def give():
            while True:
                due, data = line.get()
                wait = due - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                if not data:
                    if packets and self.open:
                        continue
                    return end()
                try:
                    send(data)
                except OSError:
                    if not packets:
                        return end()

        self.thread(take)
        self.thread(give)

    def close(self):
        self.open = False
        with self.lock:
            for s in self.sockets:
                s.close()
