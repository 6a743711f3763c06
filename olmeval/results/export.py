"""Run folders in the files that users of OLMES and lm-evaluation-harness already parse.

Nothing is computed anew but what those files derive from log-probabilities, nothing is invented:
what a run folder does not hold (raw documents, reference answers, the evaluated code's version) is
left out. The same run gives the same bytes.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from olmeval.errors import UserError
from olmeval.files import make_dir, write_json, write_text
from olmeval.results.export_lm_eval import lm_eval_files
from olmeval.results.export_olmes import olmes_files
from olmeval.results.run import Run
from olmeval.results.run_files import Files, RunFiles

FORMATS: dict[str, Callable[[RunFiles], Files]] = {"olmes": olmes_files, "lm-eval": lm_eval_files}


def export_runs(
    runs: Sequence[Run],
    format: str,
    output: Path,
    advance: Callable[[Run], None] = lambda _: None,
) -> list[Path]:
    """Writes each run into ``output/<name of its folder>``; returns the files.

    ``format``: olmes or lm-eval. Raises :class:`UserError` for another format, an unfinished run,
    two runs of one name, or a target that is itself a run folder.
    """
    if format not in FORMATS:
        raise UserError(f"unknown format '{format}'; known: {', '.join(FORMATS)}")
    written = []
    for target, run in targets_of(runs, output).items():
        make_dir(target)
        for name, content in FORMATS[format](RunFiles(run)):
            if isinstance(content, list):
                write_text(target / name, "".join(_line(row) for row in content))
            else:
                write_json(target / name, content)
            written.append(target / name)
        advance(run)
    return written


def targets_of(runs: Sequence[Run], output: Path) -> dict[Path, Run]:
    """The folder in ``output`` of every run. Raises :class:`UserError` where two are the same."""
    targets: dict[Path, Run] = {}
    for run in runs:
        target = output / run.path.resolve().name
        if target in targets:
            raise UserError(
                f"'{targets[target].path}' and '{run.path}' would both go to '{target}'; export "
                "them one by one, to different folders"
            )
        if (target / "run.json").exists():
            raise UserError(f"'{target}' is a run folder; choose another --output")
        targets[target] = run
    return targets


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
