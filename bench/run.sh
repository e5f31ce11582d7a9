#!/usr/bin/env bash
# Measures everything that docs/performance.md quotes: bench/run.sh PEER OUT NAME=CHECKPOINT=GGUF ...
# PEER holds bin/llama-bench. The results land in OUT as Markdown. Run it on an idle machine. OURS and THEIRS, from the
# environment, are more flags of either side.
set -euo pipefail
if [ $# -lt 3 ]; then
	echo "usage: bench/run.sh PEER OUT NAME=CHECKPOINT=GGUF ..." >&2
	exit 2
fi
cd "$(dirname "$0")/.."
peer=$1 out=$2
shift 2
mkdir -p "$out"
export CGO_ENABLED=0
go build -o "$out/bin/" ./cmd/serve ./cmd/eckart ./bench/versus ./bench/serving

{
	echo "commit $(git rev-parse --short=12 HEAD), $(go version), $(nproc) processors: $(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -1)"
	for entry in "$@"; do
		IFS='=' read -r name checkpoint gguf <<<"$entry"
		printf '\n## %s: against llama-bench\n\n' "$name"
		"$out/bin/versus" -eckart "$out/bin/eckart" -peer "$peer/bin/llama-bench" -model "$checkpoint" -gguf "$gguf" \
			-d 0,512,4096 -ours "${OURS:-}" -theirs "${THEIRS:-}"
		printf '\n## %s: decoder, engine, HTTP\n\n' "$name"
		"$out/bin/eckart" bench -t 1,2 -r 7 -p 0 -n 64 --path decoder,engine,http --format markdown "$checkpoint"
		printf '\n## %s: the server from outside\n\n' "$name"
		"$out/bin/serving" -serve "$out/bin/serve" "$checkpoint"
	done
} | tee "$out/results.md"
