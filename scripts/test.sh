#!/usr/bin/env bash
# Every test that this machine can run: lint, types, then the fast and the slow tests.
set -uo pipefail
cd "$(dirname "$0")/.."
BIN=${BIN:-.venv/bin}
bash scripts/install-test-packages.sh || true

failed=()
step() { local name=$1; shift; echo "== $name"; "$@" || failed+=("$name"); }

step "ruff check"  "$BIN/ruff" check .
step "ruff format" "$BIN/ruff" format --check .
step "mypy"        "$BIN/mypy"
# The data that the parity tests compare with; without a network they skip and say so.
"$BIN/olmeval" data pull olmes || echo "data pull failed: tests that need the pulled data will be skipped"
step "pytest" "$BIN/python" -m pytest -q -n "${TEST_WORKERS:-2}" --dist loadfile -rs -m "not vllm and not gpu"

if [ ${#failed[@]} -gt 0 ]; then echo "FAILED: ${failed[*]}"; exit 1; fi
echo "all checks passed"
