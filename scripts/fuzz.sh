#!/usr/bin/env bash
# Runs every fuzz target for a time (20s) or a number of inputs (1000x), the argument. Targets are found in the text, as listing
# them would link the tests of every package; a package that has some is linked once for all of them.
set -euo pipefail
cd "$(dirname "$0")/.."

programs=$(mktemp -d)
trap 'rm -rf "$programs"' EXIT
cache=$(go env GOCACHE)/fuzz/$(go list -m)
git ls-files '*_test.go' | xargs grep -o '^func Fuzz[A-Za-z0-9_]*' | sort | while IFS=: read -r file target; do
	package=$(dirname "$file") target=${target#func }
	program=$programs/${package//\//-}.test
	echo "go test -run '^\$' -fuzz '^$target\$' -fuzztime $1 -fuzzminimizetime 100x ./$package"
	[ -e "$program" ] || go test -vet=off -c -fuzz . -o "$program" "./$package"
	(cd "$package" && "$program" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "$1" -test.fuzzminimizetime 100x \
		-test.fuzzcachedir "$cache/$package")
done
