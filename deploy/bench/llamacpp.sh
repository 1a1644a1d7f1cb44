#!/bin/bash
# Builds llama.cpp (llama-server, ggml-rpc-server, llama-quantize, llama-bench, llama-batched-bench) out of the source inside the
# Python index's llama-cpp-python, for this CPU, into the cache folder. About 20 CPU-minutes once; nothing if it is there. Prints the
# folder of the programs. Needs cmake, a C++ compiler and pip.
set -euo pipefail
VERSION=0.3.36
CACHE=${LAMINA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lamina}
SRC=$CACHE/peers/llama.cpp BUILD=$CACHE/peers/llama.cpp-build
TARGETS=(llama-server ggml-rpc-server llama-quantize llama-bench llama-batched-bench)

missing=0
for t in "${TARGETS[@]}"; do [ -x "$BUILD/bin/$t" ] || missing=1; done
if [ $missing = 0 ]; then echo "$BUILD/bin"; exit; fi

mkdir -p "$CACHE/peers"
exec 9>"$CACHE/peers/llama.cpp.lock"
flock 9
if [ ! -f "$SRC/CMakeLists.txt" ]; then
  work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
  python3 -m pip download -q --no-deps --no-binary llama-cpp-python -d "$work" "llama-cpp-python==$VERSION" >&2
  tar xzf "$work"/*.tar.gz -C "$work" "llama_cpp_python-$VERSION/vendor/llama.cpp"
  mv "$work/llama_cpp_python-$VERSION/vendor/llama.cpp" "$SRC"
fi
generator=(); command -v ninja >/dev/null && generator=(-G Ninja)
cmake -S "$SRC" -B "$BUILD" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DGGML_RPC=ON -DLLAMA_BUILD_TESTS=OFF \
  -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF >&2
nice -n 19 cmake --build "$BUILD" -j "${JOBS:-$(nproc)}" --target "${TARGETS[@]}" >&2
echo "$BUILD/bin"
