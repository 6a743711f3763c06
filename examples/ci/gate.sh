#!/usr/bin/env bash
# Evaluates a checkpoint and compares it with the baseline in the repository.
#
#   examples/ci/gate.sh CHECKPOINT [options of `olmeval run`]
#
# Exit code 0: not worse, 1: worse, 2: cannot tell (or a mistake, which is said). The settings are
# environment variables; both workflows here set them.
set -euo pipefail
checkpoint=$1
shift
: "${GATE_TASKS:=arc_easy:rc:5shot piqa:rc:5shot}" # what to evaluate
: "${GATE_BASELINE:=ci/baseline.json}"             # written by `olmeval gate record`
: "${GATE_POLICY:=ci/gate.yaml}"                   # tolerances and false-alarm rate
: "${GATE_OUTPUT:=gate}"                           # runs and reports go there
: "${GATE_HISTORY:=}"                              # past checks; keep it between runs for drift

mkdir -p "$GATE_OUTPUT"
# shellcheck disable=SC2086  # several tasks are several words
olmeval run --model "$checkpoint" --output "$GATE_OUTPUT/runs" "$@" --tasks $GATE_TASKS
olmeval gate check "$GATE_OUTPUT/runs" \
  --baseline "$GATE_BASELINE" --policy "$GATE_POLICY" ${GATE_HISTORY:+--history "$GATE_HISTORY"} \
  --junit "$GATE_OUTPUT/gate.xml" --output "$GATE_OUTPUT/gate.json" \
  --markdown "${GITHUB_STEP_SUMMARY:-$GATE_OUTPUT/gate.md}" ${GITHUB_ACTIONS:+--annotations}
