#!/usr/bin/env bash
# The tests of real processes, with nothing skipped: what they need must be there (deploy/ci/setup.sh brings it).
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=${LAMINA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lamina}
[ -x "$cache/venv/bin/python" ] && export LAMINA_PYTHON=${LAMINA_PYTHON:-$cache/venv/bin/python}
LAMINA_E2E=require exec go test -count=1 -timeout 20m "$@" ./cmd/lamina
