# Everything a developer runs, one target each; `make` alone lists them. Only Go is needed, but for golden and interop,
# which need Python 3.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

FUZZTIME ?= 20s
PYTHON   ?= python3
MODEL    ?=

# Tools have a module of their own, so that their versions are pinned and their dependencies are not ours.
TOOL      := go tool -modfile=tools/go.mod
PLATFORMS := linux/amd64 linux/arm64 darwin/arm64

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/eckart and bin/serve, without cgo
	CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/eckart ./cmd/serve

.PHONY: serve
serve: ## serve MODEL, or the built-in model
	go run ./cmd/serve $(MODEL)

.PHONY: test
test: ## run all tests
	go test ./...

# These tests compute much and share little that others do not; kernels in plain Go take minutes there, and their threads are those
# of every instruction set. What else the detector sees nothing in leaves itself out, by internal/race. A pattern that matches
# a test in part hides those after it.
RACE_SKIP := ^Test(GoldenErrors|Predicted|CommonFactor|SurveySampledIsUnbiased|Feedback|FeedbackBits|Eigen)$$|^Test/^generic$$
.PHONY: race
race: ## run the short tests under the race detector
	CGO_ENABLED=1 go test -vet=off -race -short -skip '$(RACE_SKIP)' $$(go list ./... | grep -v -e '/bench/' -e '/cuda/shim' -e '/cuda/ptx')

.PHONY: ptx-suite
ptx-suite: ## run the kernel suite and the demo model with the committed PTX, translated for the shim, and races watched for (g++)
	ECKART_SHIM_KERNELS=ptx ECKART_SHIM_RACES=1 go test -count=1 -run '^Test(Suite$$|MatMul|Gated|Normed|Diagonal|Attend|Grouped|CUDA)' ./kernels/cuda ./cmd/internal/launch

.PHONY: gpu
gpu: ## run the kernel suite on this machine's GPU
	REQUIRE_CUDA=1 go test -count=1 -v -run OnGPU ./kernels/cuda

BUNDLE := bench/out/gpu-bundle
COMMIT  = $(shell git rev-parse --short=12 HEAD)$(shell git diff --quiet HEAD || echo ' with changes')

.PHONY: gpu-bundle
gpu-bundle: ## one folder of all that checks and measures a GPU, for a machine with nothing but a driver (bench/gpu)
	rm -rf $(BUNDLE)
	mkdir -p $(BUNDLE)
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w -X "main.revision=$(COMMIT)"' -o $(BUNDLE)/ ./bench/gpu
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -tags nodemo -o $(BUNDLE)/ ./cmd/eckart
	CGO_ENABLED=0 go test -c -trimpath -ldflags='-s -w' -o $(BUNDLE)/cuda.test ./kernels/cuda
	@if [ -e .venv/cuda/ready ]; then bash interop/gorgoniacu/bundle.sh .venv/cuda $(BUNDLE)/gorgoniacu.test; \
	else echo "without gorgoniacu.test, for which make gorgonia fetches the headers of CUDA"; fi
	cp -R cmd/internal/demo/gopher-dense bench/gpu/run.sh bench/gpu/README.md $(BUNDLE)/
	tar -C $(dir $(BUNDLE)) -czf $(BUNDLE).tar.gz $(notdir $(BUNDLE))
	@size=$$(du -sm $(BUNDLE) | cut -f1); echo "$(BUNDLE): $$size MB, at most 60"; [ $$size -le 60 ]

.PHONY: gpu-bench
gpu-bench: gpu-bundle ## check and measure this machine's GPU or, where there is none, do so over the shim
	$(BUNDLE)/run.sh -out bench/out/gpu $$($(BUNDLE)/gpu -list || echo -shim)

# Plain Go is tested beside the assembly by make test. These tests, of what methods reach on whole matrices, are the longest, and
# whose products they stand on is nothing to them.
PURE_SKIP := ^Test(GoldenErrors|CommonFactor|SurveySampledIsUnbiased)$$
.PHONY: pure
pure: ## run the short tests of what has assembly, or computes with it, in plain Go
	go test -vet=off -short -tags purego -skip '$(PURE_SKIP)' ./internal/... ./kernels/cpu ./layers/... ./model ./model/compress ./runtime

.PHONY: emulated
emulated: ## run the kernel suite as arm64 and, its short part, with AVX-512, on emulators (docs/emulation.md)
	scripts/emulate/arm64.sh
	scripts/emulate/avx512.sh -test.short -test.run /avx512

# The subtests left out are the longest.
.PHONY: emulated-short
emulated-short: ## run a part of the kernel suite as arm64, on an emulator
	scripts/emulate/arm64.sh -short -run 'TestSuite/neon|TestOpen|TestKinds' -skip '//^(Attend|Company|activations=.*|threads=.*)$$'

.PHONY: smoke
smoke: ## start the server on loopback, stream from it, leave one stream midway, stop it
	go test -count=1 -v -run '^TestSmoke' ./cmd/...

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (20s)
	@scripts/fuzz.sh $(FUZZTIME)

# Packages without benchmarks are not linked.
.PHONY: bench
bench: ## run every benchmark once, to see that it runs; bench/README.md says how to measure
	git ls-files '*_test.go' | xargs grep -l '^func Benchmark' | sed 's,^,./,; s,/[^/]*$$,,' | sort -u | \
		xargs go test -vet=off -short -run '^$$' -bench . -benchtime 1x

# Tests are checked as far as vet does, which compiles what they import: their types, and the assembly; those of linux/amd64 are
# checked by make check. The programs are linked.
.PHONY: cross
cross: ## build for every platform and check all tests there, without cgo
	@for platform in $(PLATFORMS); do \
		export CGO_ENABLED=0 GOOS=$${platform%/*} GOARCH=$${platform#*/}; \
		echo "CGO_ENABLED=0 GOOS=$$GOOS GOARCH=$$GOARCH go build ./cmd/... ./bench/..., go vet ./..."; \
		go build ./cmd/... ./bench/...; \
		if [ $$platform != linux/amd64 ]; then go vet ./...; fi; \
	done
	CGO_ENABLED=0 go build -tags nocuda -o /dev/null ./cmd/serve

.PHONY: check
check: format vet lint imports fresh registers ## format, vet, staticcheck, import table, generated files fresh

.PHONY: format
format:
	@unformatted=$$(git ls-files --cached --others --exclude-standard '*.go' | xargs -r ls 2>/dev/null | xargs -r $(TOOL) gofumpt -l); \
	if [ -n "$$unformatted" ]; then \
		echo "not formatted, run make fmt:"; echo "$$unformatted"; exit 1; \
	fi

.PHONY: fmt
fmt: ## format all Go files
	git ls-files --cached --others --exclude-standard '*.go' | xargs -r ls 2>/dev/null | xargs -r $(TOOL) gofumpt -w

.PHONY: vet
vet:
	go vet ./...
	go vet -tags purego ./...

.PHONY: lint
lint:
	$(TOOL) staticcheck ./...

.PHONY: imports
imports:
	go test -count=1 -run '^TestImports' .

.PHONY: generate
generate: ## write the generated files again
	go generate ./...

# The generators run on a copy of the tree, so that a check changes nothing.
.PHONY: fresh
fresh:
	@copy=$$(mktemp -d); trap 'rm -rf "$$copy"' EXIT; \
	git ls-files -z --cached --others --exclude-standard | xargs -0 -r ls -d 2>/dev/null | tar -cf - -T - | tar -xf - -C "$$copy"; \
	cp -R "$$copy" "$$copy.before"; trap 'rm -rf "$$copy" "$$copy.before"' EXIT; \
	(cd "$$copy" && go generate ./...); \
	diff -r "$$copy.before" "$$copy" || { echo "generated files are stale, run make generate"; exit 1; }

.PHONY: kernels
kernels: ## compile the CUDA kernels to PTX, with clang-19 (docs/cuda.md)
	go run ./kernels/cuda/ptx/compile

PTXAS := .venv/ptxas/bin/ptxas

.PHONY: ptxas
ptxas: $(PTXAS) ## write down the registers of the CUDA kernels, with NVIDIA's assembler (40 MB from PyPI)
	go run ./kernels/cuda/ptx/compile -ptxas $(PTXAS)

$(PTXAS):
	$(PYTHON) -m venv .venv/ptxas
	.venv/ptxas/bin/python -m pip install --quiet nvidia-cuda-nvcc-cu12==12.9.86
	ln -sf $$(cd .venv/ptxas/lib/python3*/site-packages/nvidia/cuda_nvcc/bin && pwd)/ptxas $@

# Where NVIDIA's assembler has been installed, a kernel may not keep registers in memory.
.PHONY: registers
registers:
	@if [ -e $(PTXAS) ]; then go run ./kernels/cuda/ptx/compile -ptxas $(PTXAS) -check; fi

.PHONY: golden
golden: .venv/golden/ready ## write the golden checkpoints again, with the reference implementation (6 GB of Python packages)
	.venv/golden/bin/python scripts/golden/golden.py

.venv/golden/ready: scripts/golden/requirements.txt
	$(PYTHON) -m venv .venv/golden
	.venv/golden/bin/python -m pip install --quiet --requirement $<
	touch $@

.PHONY: interop
interop: ## run the official openai Python client against the server
	PYTHON=$(PYTHON) bash interop/run.sh

.PHONY: gorgonia
gorgonia: .venv/cuda/ready ## compile and test interop/gorgoniacu, with the headers of CUDA from PyPI, on a GPU or on the shim
	bash interop/gorgoniacu/run.sh .venv/cuda

.venv/cuda/ready: interop/gorgoniacu/requirements.txt
	$(PYTHON) -m venv .venv/cuda
	.venv/cuda/bin/python -m pip install --quiet --no-deps --requirement $<
	touch $@

.PHONY: clean
clean: ## remove what the other targets made
	rm -rf bin .venv interop/.venv bench/out
