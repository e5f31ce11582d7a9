#!/usr/bin/env bash
# Runs the checks and measurements of this folder on the machine's GPU: run.sh [FLAGS], see README.md. Needed is NVIDIA's
# driver; no Go, no compiler, no network. The results land in the folder results beside this file, unless -out names another.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# Each part is a process, and the driver compiles the kernels for the first alone if it can keep what it has compiled.
export CUDA_CACHE_PATH=${CUDA_CACHE_PATH:-$here/cache}
exec "$here/gpu" -out "$here/results" "$@"
