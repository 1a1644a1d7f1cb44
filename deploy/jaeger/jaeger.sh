#!/usr/bin/env bash
# Builds a real Jaeger from its Go module, once, and runs it on loopback.
#
#   jaeger.sh build          builds it into the cache (about 7 CPU-minutes the first time) and prints the path
#   jaeger.sh run            builds if needed and runs in the foreground: OTLP on 127.0.0.1:4317 (gRPC) and :4318 (HTTP),
#                            queries on 127.0.0.1:16686. JAEGER_QUERY, JAEGER_OTLP_HTTP, JAEGER_OTLP_GRPC change the addresses.
#
# The module build has no user interface (Jaeger's web assets are not part of it): it answers the query API.
# For the interface run the release or the container: see README.md beside this script.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${LAMINA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lamina}
sum=$(cat "$here/go.mod" "$here/go.sum" | sha256sum | cut -c1-12)
bin=$cache/jaeger-$sum

build() {
	[ -x "$bin" ] && return
	mkdir -p "$cache"
	echo "building Jaeger into $bin (several minutes, once)" >&2
	CGO_ENABLED=0 go build -C "$here" -mod=readonly -trimpath -ldflags='-s -w' -o "$bin.$$" github.com/jaegertracing/jaeger/cmd/jaeger
	mv "$bin.$$" "$bin"
}

case ${1:-} in
build)
	build
	echo "$bin"
	;;
run)
	build
	exec "$bin" \
		--set=extensions.jaeger_query.http.endpoint="${JAEGER_QUERY:-127.0.0.1:16686}" \
		--set=extensions.jaeger_query.grpc.endpoint="${JAEGER_QUERY_GRPC:-127.0.0.1:16685}" \
		--set=receivers.otlp.protocols.http.endpoint="${JAEGER_OTLP_HTTP:-127.0.0.1:4318}" \
		--set=receivers.otlp.protocols.grpc.endpoint="${JAEGER_OTLP_GRPC:-127.0.0.1:4317}"
	;;
*)
	sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac
