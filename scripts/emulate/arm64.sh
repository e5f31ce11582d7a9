#!/usr/bin/env bash
# Runs tests as an arm64 processor would, on qemu's user mode: once with all that qemu knows, and once as a Cortex-A53,
# which lacks the dot products and half floats that kernels look for at run time. Arguments go to go test.
set -euo pipefail
cd "$(dirname "$0")/../.."

# Not kernels/cuda: it loads libraries, and there are none for arm64 here.
packages=(./kernels ./kernels/cpu ./kernels/kerneltest ./layers)

qemu=$(command -v qemu-aarch64 || command -v qemu-aarch64-static) || {
	echo "emulated arm64 needs qemu's user mode: install Debian's qemu-user, or qemu-user-static" >&2
	exit 1
}
for model in max cortex-a53; do
	echo "arm64, $model"
	CGO_ENABLED=0 GOOS=linux GOARCH=arm64 go test -count=1 -timeout 0 -exec "$qemu -cpu $model" "$@" "${packages[@]}"
done
