package cpu

//go:generate go -C ../../internal/gen run ./matmul -isa avx512 -out ../../kernels/cpu/matmul_avx512_amd64.s -stubs ../../kernels/cpu/matmul_avx512_amd64.go -pkg cpu
//go:generate go -C ../../internal/gen run ./matmul -isa avx2 -out ../../kernels/cpu/matmul_avx2_amd64.s -stubs ../../kernels/cpu/matmul_avx2_amd64.go -pkg cpu
//go:generate go -C ../../internal/gen run ./matmul -isa avx512bf16 -out ../../kernels/cpu/matmul_avx512bf16_amd64.s -stubs ../../kernels/cpu/matmul_avx512bf16_amd64.go -pkg cpu
