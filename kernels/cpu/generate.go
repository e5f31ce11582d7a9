package cpu

//go:generate go -C ../../internal/gen run ./matmul -isa avx512 -out ../../kernels/cpu/matmul_avx512_amd64.s -stubs ../../kernels/cpu/matmul_avx512_amd64.go -pkg cpu
//go:generate go -C ../../internal/gen run ./matmul -isa avx2 -out ../../kernels/cpu/matmul_avx2_amd64.s -stubs ../../kernels/cpu/matmul_avx2_amd64.go -pkg cpu
//go:generate go -C ../../internal/gen run ./matmul -isa avx512bf16 -out ../../kernels/cpu/matmul_avx512bf16_amd64.s -stubs ../../kernels/cpu/matmul_avx512bf16_amd64.go -pkg cpu
//go:generate go -C ../../internal/gen run ./attention -isa avx512 -out ../../kernels/cpu/attention_avx512_amd64.s -stubs ../../kernels/cpu/attention_avx512_amd64.go -pkg cpu
//go:generate go -C ../../internal/gen run ./attention -isa avx2 -out ../../kernels/cpu/attention_avx2_amd64.s -stubs ../../kernels/cpu/attention_avx2_amd64.go -pkg cpu
//go:generate go -C ../../internal/gen run ./rows -isa avx512 -out ../../kernels/cpu/rows_avx512_amd64.s -stubs ../../kernels/cpu/rows_avx512_amd64.go -pkg cpu
//go:generate go -C ../../internal/gen run ./rows -isa avx2 -out ../../kernels/cpu/rows_avx2_amd64.s -stubs ../../kernels/cpu/rows_avx2_amd64.go -pkg cpu
//go:generate go -C ../../internal/gen run ./grouped -isa avx512vnni -out ../../kernels/cpu/grouped_avx512vnni_amd64.s -stubs ../../kernels/cpu/grouped_avx512vnni_amd64.go -pkg cpu
//go:generate go -C ../../internal/gen run ./grouped -isa avx2 -out ../../kernels/cpu/grouped_avx2_amd64.s -stubs ../../kernels/cpu/grouped_avx2_amd64.go -pkg cpu
//go:generate go -C ../../internal/gen run ./sweep -isa avx512 -out ../../kernels/cpu/sweep_avx512_amd64.s -stubs ../../kernels/cpu/sweep_avx512_amd64.go -pkg cpu
//go:generate go -C ../../internal/gen run ./sweep -isa avx2 -out ../../kernels/cpu/sweep_avx2_amd64.s -stubs ../../kernels/cpu/sweep_avx2_amd64.go -pkg cpu
//go:generate go -C ../../internal/gen run ./neon -subject matmul -out ../../kernels/cpu/matmul_neon_arm64.s -stubs ../../kernels/cpu/matmul_neon_arm64.go
//go:generate go -C ../../internal/gen run ./neon -subject grouped -out ../../kernels/cpu/grouped_neon_arm64.s -stubs ../../kernels/cpu/grouped_neon_arm64.go
//go:generate go -C ../../internal/gen run ./neon -subject rows -out ../../kernels/cpu/rows_neon_arm64.s -stubs ../../kernels/cpu/rows_neon_arm64.go
//go:generate go -C ../../internal/gen run ./neon -subject attention -out ../../kernels/cpu/attention_neon_arm64.s -stubs ../../kernels/cpu/attention_neon_arm64.go
//go:generate go -C ../../internal/gen run ./neon -subject sweep -out ../../kernels/cpu/sweep_neon_arm64.s -stubs ../../kernels/cpu/sweep_neon_arm64.go
