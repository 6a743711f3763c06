#!/usr/bin/env bash
# Creates the virtual environment and installs olmeval with exact, known-good versions.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}

if ! "$PYTHON" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))'; then
  echo "olmeval needs Python 3.11 to 3.14, and '$PYTHON' is $("$PYTHON" --version 2>&1); run: make PYTHON=/path/to/python3.11 …" >&2
  exit 2
fi
if ! "$PYTHON" -m venv "$VENV"; then
  echo "'$PYTHON -m venv' failed; on Debian install the package python3-venv, then run make again" >&2
  exit 2
fi
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
