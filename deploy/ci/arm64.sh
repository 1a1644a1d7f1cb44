#!/usr/bin/env bash
# Runs the kernels of arm64 under qemu-user, on CPUs with i8mm, with dotprod alone and with neither, against generic Go;
# then the logits of tiny models there against those of this machine. Installs nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."
qemu=$(command -v qemu-aarch64-static || command -v qemu-aarch64) || {
	echo "qemu-aarch64 is missing: apt-get install qemu-user-static" >&2
	exit 1
}
# The emulators of amd64 assembly and the tests that do not touch assembly run elsewhere.
tests='Quantize|MatMul|Vector|Exp|AttentionLevels|AttentionPoison|Inside|RMSNorm|SiluMul|Gelu|GELU|LayerNorm|SoftCap|ClampedGLU|Softmax|Rope|KV|Golden|Choose|Required|GEMM|Conv|Pool|Layouts|Cell|LSTM|GRU|Tanh'
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
GOARCH=arm64 go test -c -o "$bin/kernels" ./kernels
GOARCH=arm64 go test -c -o "$bin/shard" ./shard
digest() { (cd shard && LAMINA_TEST_DIGEST=1 "$@" | awk '$1 == "digest" { print $3 }'); }
want=$(KERNELS=generic digest go test -count=1 -v -run '^TestImplementations$' .)

for pair in max:neoni8mm neoverse-n1:neondot cortex-a57:neon; do
	cpu=${pair%:*} level=${pair#*:}
	(cd kernels && KERNELS_REQUIRE=$level "$qemu" -cpu "$cpu" "$bin/kernels" -test.short -rapid.checks=20 \
		-test.run "$tests" -test.skip Emulated >"$bin/log") || {
		cat "$bin/log"
		exit 1
	}
	got=$(digest "$qemu" -cpu "$cpu" "$bin/shard" -test.run '^TestImplementations$' -test.v)
	if [ -z "$got" ] || [ "$got" != "$want" ]; then
		echo "$level on $cpu: the logits of the tiny models differ from this machine's: '$got', not '$want'" >&2
		exit 1
	fi
	echo "ok $level on $cpu (${SECONDS}s)"
done
