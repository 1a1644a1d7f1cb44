#!/usr/bin/env bash
# Three nodes on loopback, a real model cut by layers over them, one question answered. Called by `make demo`.
# At a terminal the cluster stays up until Ctrl-C; without one it is stopped at the end.
set -euo pipefail
cd "$(dirname "$0")/../.."
lamina=$PWD/bin/lamina
models=${LAMINA_MODELS:-${XDG_CACHE_HOME:-$HOME/.cache}/lamina/models}
model=$models/SmolLM2-135M-Instruct.Q4_1.gguf
cache=${LAMINA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lamina}
http=${DEMO_HTTP_PORT:-8080} peer=${DEMO_PEER_PORT:-7946}
question=${1:-Why is the sky blue?}
work=$(mktemp -d)
pids=()
unset LAMINA_ADDR LAMINA_KEY LAMINA_DATA LAMINA_NAME LAMINA_PEER LAMINA_HTTP LAMINA_OTLP

finish() {
	trap - EXIT
	[ ${#pids[@]} -eq 0 ] || { kill "${pids[@]}" 2>/dev/null || true; wait "${pids[@]}" 2>/dev/null || true; }
	rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

bold='' plain=''
[ ! -t 1 ] || { bold=$'\033[1m' plain=$'\033[0m'; }
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
die() {
	printf '%s\n' "$*" >&2
	exit 1
}
ready() { # ready NAME PID: waits until the node says so
	for _ in $(seq 300); do
		grep -q ^ready "$work/$1.log" 2>/dev/null && return
		kill -0 "$2" 2>/dev/null || die "node $1 did not start: $(cat "$work/$1.log")"
		sleep 0.1
	done
	die "node $1 is not ready after 30 s: $(cat "$work/$1.log")"
}
start() { # start NAME N ARGS...: a node with its own ports and data folder
	local name=$1 n=$2
	shift 2
	"$lamina" "$@" --name "$name" --data "$work/$name" --peer "127.0.0.1:$((peer + n))" --http "127.0.0.1:$((http + n))" \
		--memory 1073741824 --threads 1 "${otlp[@]}" >"$work/$name.out" 2>"$work/$name.log" &
	pids+=($!)
	ready "$name" $!
	echo "  $name  API http://127.0.0.1:$((http + n))  peers 127.0.0.1:$((peer + n))"
}

otlp=()
jaeger=$(ls -t "$cache"/jaeger-* 2>/dev/null | head -1 || true)
if [ -n "$jaeger" ] && ! (exec 3<>/dev/tcp/127.0.0.1/16686) 2>/dev/null; then
	deploy/jaeger/jaeger.sh run >"$work/jaeger.log" 2>&1 &
	pids+=($!)
fi
[ -z "$jaeger" ] || otlp=(--otlp http://127.0.0.1:4318)

say "Three nodes, the second and third join by the first"
start n1 0 up
export LAMINA_ADDR=http://127.0.0.1:$http LAMINA_DATA=$work/n1
for n in 1 2; do
	start "n$((n + 1))" $n join "$(env -u LAMINA_PEER "$lamina" token create)"
done

say "lamina add smollm2 $(basename "$model") --stages 3"
"$lamina" add smollm2 "$model" --stages 3

say "lamina nodes"
"$lamina" nodes
say "lamina ps"
"$lamina" ps

say "lamina run smollm2 \"$question\""
"$lamina" run smollm2 "$question" --verbose

say "The same at another node's API, by curl"
curl -sS -i "http://127.0.0.1:$((http + 2))/v1/chat/completions" -d '{"model":"smollm2","max_tokens":24,"temperature":0,"messages":[{"role":"user","content":"Name three colours."}]}' |
	grep -iE '^(HTTP|Lamina-Route)|choices' | sed -E 's/.*"content":"([^"]*)".*/answer: \1/'

say "Where to look"
echo "  API      http://127.0.0.1:$http/v1   (also on $((http + 1)) and $((http + 2)); any OpenAI client, base_url)"
echo "  metrics  http://127.0.0.1:$http/metrics"
if [ -n "$jaeger" ]; then
	echo "  traces   http://127.0.0.1:16686/api/traces?service=lamina   (Jaeger's query API; the user interface is in its container: deploy/jaeger/README.md)"
else
	echo "  traces   make jaeger builds a Jaeger (several minutes, once); make demo then sends its traces there"
fi
if [ -t 0 ] && [ -t 1 ]; then
	echo
	echo "  The cluster stays up. Ctrl-C stops it. In another terminal:"
	echo "    export LAMINA_ADDR=$LAMINA_ADDR LAMINA_DATA=$LAMINA_DATA"
	echo "    bin/lamina run smollm2"
	wait "${pids[@]}"
fi
