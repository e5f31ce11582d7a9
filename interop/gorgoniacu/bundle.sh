#!/usr/bin/env bash
# Compiles the tests of interop/gorgoniacu into a program that needs libcuda.so.1 and glibc alone, of this machine's version or
# a later one: bundle.sh VENV FILE, where VENV holds the headers of CUDA (make gorgonia makes one). bench/gpu runs it.
set -euo pipefail
cd "$(dirname "$0")/../.."
include=$(echo "$PWD/$1"/lib/python3*/site-packages/nvidia/cuda_runtime/include)
file=$(realpath "$2")

# In the place of the driver, a library with the names of all that the headers declare: what the program calls is looked up
# when it is called first, in the driver of the machine where it runs.
links=$(mktemp -d)
trap 'rm -rf "$links"' EXIT
echo '#include <cuda.h>' | gcc -E -P "-I$include" - | grep -o '\bcu[A-Z][A-Za-z0-9_]* *(' | tr -d ' (' | sort -u |
	sed 's/.*/void &(void) {}/' >"$links/names.c"
gcc -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$links/libcuda.so" "$links/names.c"
export CGO_ENABLED=1 CGO_CFLAGS="-I$include" CGO_LDFLAGS="-L$links -Wl,--no-as-needed -Wl,-z,lazy"
cd interop/gorgoniacu
go test -c -trimpath -ldflags='-s -w' -o "$file" .
