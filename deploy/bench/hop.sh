#!/usr/bin/env bash
# What a hop between two processes costs, over loopback with TLS: hop.sh [benchtime] [more flags of the test binary]
# Each process has a core of its own (0 and 1). The allocations are those of the first.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=$(mktemp)
trap 'rm -f "$bin"' EXIT
go test -c -o "$bin" ./node/peer
LAMINA_HOP_START="taskset -c 1" taskset -c 0 "$bin" -test.run '^$' -test.bench '^BenchmarkHop$' -test.benchtime "${1:-2s}" "${@:2}"
