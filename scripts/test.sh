#!/usr/bin/env bash
# The tests that this machine can run: `test.sh` is lint, types and the fast tests, `test.sh slow`
# the slow ones.
set -uo pipefail
cd "$(dirname "$0")/.."
BIN=${BIN:-.venv/bin}
bash scripts/install-test-packages.sh || true

failed=()
step() { local name=$1; shift; echo "== $name"; "$@" || failed+=("$name"); }

run_tests() {
  step "$1" "$BIN/python" -m pytest -q -n "${TEST_WORKERS:-2}" --dist loadfile -rs --durations=20 -m "$2"
}

# The data that the parity tests compare with; without a network they skip and say so.
"$BIN/olmeval" data pull olmes || echo "data pull failed: tests that need the pulled data will be skipped"
if [ "${1:-}" = slow ]; then
  run_tests "slow tests" "slow and not vllm and not gpu"
else
  step "ruff check"  "$BIN/ruff" check .
  step "ruff format" "$BIN/ruff" format --check .
  step "mypy"        "$BIN/mypy"
  step "documentation" env NO_MKDOCS_2_WARNING=1 "$BIN/mkdocs" build --strict --quiet
  run_tests "tests" "not slow and not vllm and not gpu"
fi

if [ ${#failed[@]} -gt 0 ]; then echo "FAILED: ${failed[*]}"; exit 1; fi
echo "all checks passed"
