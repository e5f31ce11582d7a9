#!/usr/bin/env bash
# Compiles interop/gorgoniacu against the headers of CUDA that a virtual environment of Python holds (make gorgonia makes
# one), and runs its tests: on the GPU if REQUIRE_CUDA is set, else on the shim. Needs Go, a C and a C++ compiler.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=$1
shift
include=$(echo "$PWD/$venv"/lib/python3*/site-packages/nvidia/cuda_runtime/include)

# cu names functions that the shim does not have and the tests do not call: they stay without an address.
links=$(mktemp -d)
trap 'rm -rf "$links"' EXIT
if [ -n "${REQUIRE_CUDA:-}" ]; then
	library=$(ldconfig -p | awk '/libcuda\.so\.1 / { print $NF; exit }')
else
	library=$(cd interop/gorgoniacu && CGO_ENABLED=0 go run ./library)
fi
ln -s "$library" "$links/libcuda.so"
ln -s "$library" "$links/libcuda.so.1"
export CGO_ENABLED=1 CGO_CFLAGS="-I$include" CGO_LDFLAGS="-L$links -Wl,--unresolved-symbols=ignore-all"
export LD_LIBRARY_PATH="$links${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" REQUIRE_CUDA=1
cd interop/gorgoniacu
go vet ./...
go test -count=1 "$@" ./...
