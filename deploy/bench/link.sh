#!/usr/bin/env bash
# Chunks of prompts and rows that decode on one link, over loopback and, as root, over a line of 1 Gbit/s between two network
# namespaces (veth, tbf): link.sh [benchtime] [more flags of the test binary]
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=$(mktemp)
a=lamina-a-$$ b=lamina-b-$$
trap 'rm -f "$bin"; ip netns del "$a" 2>/dev/null || true; ip netns del "$b" 2>/dev/null || true' EXIT
go test -c -o "$bin" ./node/peer
args=(-test.run '^$' -test.bench '^BenchmarkLoad$' -test.benchtime "${1:-2s}" "${@:2}")
echo "loopback"
LAMINA_HOP_START="taskset -c 1" taskset -c 0 "$bin" "${args[@]}" | grep -E '^Benchmark'
if [ "$(id -u)" != 0 ]; then
	echo "not root: no line of 1 Gbit/s"
	exit
fi
ip netns add "$a"
ip netns add "$b"
ip -n "$a" link add v0 type veth peer name v0 netns "$b"
for n in "$a 10.77.0.1" "$b 10.77.0.2"; do
	set -- $n
	ip -n "$1" addr add "$2/24" dev v0
	ip -n "$1" link set v0 up
	ip -n "$1" link set lo up
	ip netns exec "$1" tc qdisc add dev v0 root tbf rate 1gbit burst 64kb latency 50ms
done
echo "1 Gbit/s"
LAMINA_HOP_BIND="10.77.0.1 10.77.0.2" LAMINA_HOP_START="ip netns exec $b taskset -c 1" \
	ip netns exec "$a" taskset -c 0 "$bin" "${args[@]}" | grep -E '^Benchmark'
