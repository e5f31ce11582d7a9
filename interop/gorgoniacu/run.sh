#!/usr/bin/env bash
# Compiles interop/gorgoniacu against the headers of PyPI's nvidia-cuda-runtime-cu12, and runs its tests on the GPU if
# there is a driver, else on the shim. Needs Go, Python 3 with venv, and a C and a C++ compiler.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}
venv=.venv/cuda
if [ ! -e "$venv/ready" ]; then
	"$PYTHON" -m venv "$venv"
	"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --requirement interop/gorgoniacu/requirements.txt
	touch "$venv/ready"
fi
include=$(echo "$PWD/$venv"/lib/python3*/site-packages/nvidia/cuda_runtime/include)

# What the linker sees is a library without a symbol: each is looked up when it is first called, in the driver's library.
stub=$(mktemp -d)
trap 'rm -rf "$stub"' EXIT
cc -shared -Wl,-soname,libcuda.so.1 -o "$stub/libcuda.so" -x c /dev/null
export CGO_ENABLED=1 CGO_CFLAGS="-I$include" CGO_LDFLAGS="-L$stub -Wl,--unresolved-symbols=ignore-all -Wl,-z,lazy"
if [ -z "${REQUIRE_CUDA:-}" ]; then
	mkdir "$stub/run"
	ln -s "$(cd interop/gorgoniacu && CGO_ENABLED=0 go run ./library)" "$stub/run/libcuda.so.1"
	export LD_LIBRARY_PATH="$stub/run${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
	export REQUIRE_CUDA=1
fi
cd interop/gorgoniacu
go vet ./...
go test -count=1 "$@" ./...
