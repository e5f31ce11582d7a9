package linalg

//go:generate go -C ../gen run ./linalg -isa avx512 -out ../../internal/linalg/kernels_avx512_amd64.s -stubs ../../internal/linalg/kernels_avx512_amd64.go -pkg linalg
//go:generate go -C ../gen run ./linalg -isa avx2 -out ../../internal/linalg/kernels_avx2_amd64.s -stubs ../../internal/linalg/kernels_avx2_amd64.go -pkg linalg
