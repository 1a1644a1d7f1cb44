#!/usr/bin/env bash
# Brings what a fresh machine lacks for CI: qemu-user, the models, a Jaeger, the openai client in an environment of its own.
# Everything goes into the cache folder; what is there is not brought again.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=${LAMINA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lamina}
mkdir -p "$cache"

# For make arm64; a package of the system, so it needs root.
if ! command -v qemu-aarch64-static qemu-aarch64 >/dev/null; then
	apt-get update -q >/dev/null && apt-get install -qy --no-install-recommends qemu-user-static >/dev/null
fi
go version
python3 --version
deploy/models/fetch.py smollm2 qwen2.5-coder-0.5b gemma-3-270m nomic-embed
deploy/jaeger/jaeger.sh build
if ! "$cache/venv/bin/python" -c 'import openai, msgpack' 2>/dev/null; then
	python3 -m venv "$cache/venv"
	"$cache/venv/bin/pip" install -q --disable-pip-version-check openai==3.* msgpack==1.*
fi
"$cache/venv/bin/python" -c 'import openai; print("openai", openai.__version__)'
