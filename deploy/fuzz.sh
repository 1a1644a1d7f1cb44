#!/usr/bin/env bash
# Runs every fuzz target of the tree for a while: fuzz.sh 10s
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-10s}
n=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
while IFS=: read -r file line; do
	target=$(sed -E 's/.*func (Fuzz[A-Za-z0-9_]+)\(.*/\1/' <<<"$line")
	echo "$target ($(dirname "$file"), $time)"
	for try in 1 2 3; do
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "./$(dirname "$file")" >"$log" 2>&1 && break
		# On a busy machine go's fuzzer may take the end of its own time for a failure; a real one names its input.
		if [ "$try" = 3 ] || grep -q 'Failing input written' "$log" || ! grep -q 'context deadline exceeded' "$log"; then
			cat "$log"
			exit 1
		fi
	done
	n=$((n + 1))
done < <(git grep -E '^func Fuzz[A-Za-z0-9_]+\(' -- '*_test.go')
echo "$n fuzz targets"
