#!/usr/bin/env bash
# Runs the official openai Python client against the server with its built-in model: `make interop`. Needs Python 3.9
# and a package index; the virtual environment stays in .venv beside this file. Arguments go to test_openai.py, which
# takes words that tests' names must contain.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=$here/.venv
if [[ ! -f $venv/ready || $here/requirements.txt -nt $venv/ready ]]; then
	"${PYTHON:-python3}" -m venv "$venv"
	"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
	touch "$venv/ready"
fi
binary=$(mktemp -d)/serve
trap 'rm -rf "$(dirname "$binary")"' EXIT
(cd "$here/.." && go build -o "$binary" ./cmd/serve)
"$venv/bin/python" "$here/test_openai.py" "$binary" "$@"
