"""Past checks of a gate, and the drift chart over them.

A slow decline passes every single check. The chart adds up small changes, and its height is chosen
so that a year of checks without change rarely raises an alarm.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from olmeval.analysis.gate import GateReport
from olmeval.analysis.gate_policy import Drift
from olmeval.errors import CorruptFileError
from olmeval.files import write_text
from olmeval.results.run import Run
from olmeval.stats.cusum import cusum, self_starting, threshold


def load_history(path: Path) -> list[dict[str, Any]]:
    """Entries {run, fingerprint, finished, values}, oldest first; none where there is no file."""
    if not path.exists():
        return []
    entries = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            entry = json.loads(line)
            entries.append({**entry, "values": dict(entry["values"])})
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise CorruptFileError(f"'{path}:{number}' is no entry of a history: {error}") from None
    return entries


def extended(history: Sequence[dict[str, Any]], report: GateReport, run: Run) -> list[Any]:
    """``history`` with this check at its end; an earlier check of the same weights goes."""
    fingerprint = run.info["model"].get("fingerprint", run.path.name)
    values = {f.name: f.value for f in report.findings if f.value == f.value}
    now = {
        "run": run.path.name,
        "fingerprint": fingerprint,
        "finished": run.info.get("finished"),
        "values": values,
    }
    return [*(e for e in history if e["fingerprint"] != fingerprint), now]


def save_history(path: Path, history: Sequence[dict[str, Any]]) -> None:
    """Writes the entries, one line of JSON each."""
    write_text(path, "".join(json.dumps(entry) + "\n" for entry in history))


def with_drift(report: GateReport, history: Sequence[dict[str, Any]], policy: Drift) -> GateReport:
    """``report`` with the verdict ``drifting`` where a chart over ``history`` is too high.

    The last entry of ``history`` is this check. The policy's false-alarm rate is divided by the
    number of charts.
    """
    charted = [f for f in report.findings if f.value == f.value]
    if not charted:
        return report
    height = threshold(policy.false_alarm / len(charted), policy.checks, policy.shift)
    findings = []
    for finding in report.findings:
        values = [e["values"][finding.name] for e in history if finding.name in e["values"]]
        if finding.verdict == "ok" and finding in charted and len(values) >= policy.warmup:
            worse = -1.0 if finding.higher_is_better else 1.0
            level = cusum(worse * self_starting(values), policy.shift)[-1]
            if level > height:
                reason = f"declines slowly: chart at {level:.1f}, limit {height:.1f}"
                finding = replace(finding, verdict="drifting", reason=reason)
        findings.append(finding)
    return replace(report, findings=tuple(findings))
