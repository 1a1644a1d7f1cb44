#!/usr/bin/env bash
# The race detector on the packages given. Its own runtime fails a check of its own now and then ("ThreadSanitizer: CHECK failed", no race
# and no test named): then, and only then, the packages that did not pass are run once more.
set -uo pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT
run() { CGO_ENABLED=1 go test -race -short "$@" 2>&1 | tee "$log"; }
run "$@" && exit 0
if grep -q 'ThreadSanitizer: CHECK failed' "$log" && ! grep -q -e 'DATA RACE' -e '^--- FAIL' "$log"; then
	run "$@"
	exit
fi
exit 1
