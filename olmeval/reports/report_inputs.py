"""What a report is made of: run folders, tables, and the files of ladders, mixtures and gates.

Each path is told by what it holds, not by an option, so that ``olmeval report`` takes a folder of
anything this package wrote.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os.path import commonpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olmeval.analysis.compare import run_name
from olmeval.errors import UserError
from olmeval.files import read_json
from olmeval.results.run import Run, find_runs, joined
from olmeval.results.table import checked, load_table

if TYPE_CHECKING:
    import pandas as pd

TABLES = {".csv", ".parquet"}
PROPOSAL = "proposal.json"
PROPOSED = {"mixture", "natural", "best_row", "gain", "epochs", "uncertainty", "warnings"}
"""What is read of a proposal. Its class is not imported, which would load scikit-learn."""
Named = dict[str, dict[str, Any]]


@dataclass
class Inputs:
    """Everything that the report shows.

    ``table``: the long table of all runs and tables (None where there is neither); ``runs``: the
    finished runs among them, numbered folders of one checkpoint as one, and ``names`` their names
    in the table, by path; ``ladders``, ``mixtures`` (reports), ``proposals`` and ``gates``: the
    files as read, by name; ``notes``: what was left out, in words.
    """

    table: "pd.DataFrame | None" = None
    runs: list[Run] = field(default_factory=list)
    names: dict[Path, str] = field(default_factory=dict)
    ladders: Named = field(default_factory=dict)
    mixtures: Named = field(default_factory=dict)
    proposals: Named = field(default_factory=dict)
    gates: Named = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def gather(paths: Sequence[str | Path], mapping: str | Path | None = None) -> Inputs:
    """Reads ``paths``: run folders or folders of them, CSV or Parquet tables, JSON files.

    JSON files are those of ``olmeval ladder report`` and ``ladder predict --json``, ``olmix
    report`` and ``olmix optimize`` (or its folder), ``olmeval gate check --output``. ``mapping``
    names the columns of foreign tables. Raises :class:`UserError` for a path that is none of
    these, or holds nothing.
    """
    import pandas as pd

    inputs = Inputs()
    tables: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f"'{path}' does not exist; give a run, a table or a folder of them")
        if path.is_dir():
            _folder(path, inputs, tables)
        elif path.suffix in TABLES:
            tables.append(path)
        elif path.suffix == ".json":
            _json(path, inputs)
        else:
            raise UserError(f"'{path}' is neither a folder nor .csv, .parquet or .json")
    frames = [load_table(tables, mapping)] if tables else []
    if inputs.runs:
        inputs.runs = joined(inputs.runs)
        inputs.names = distinct_names(inputs.runs)
        frames += [run.table().assign(run=inputs.names[run.path]) for run in inputs.runs]
    if frames:
        whole = pd.concat([f for f in frames if len(f)] or frames, ignore_index=True)
        inputs.table = checked(whole, ", ".join(map(str, paths)))
    return inputs


def distinct_names(runs: Sequence[Run]) -> dict[Path, str]:
    """A name for every run folder: its run's, with the folder where two hold one checkpoint."""
    found = {run.path: run_name(run) for run in runs}
    same: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        trained = run.info["model"]["metadata"]
        same.setdefault((found[run.path], trained.get("seed"), trained.get("step")), []).append(run)
    for group in same.values():
        if len(group) > 1:
            folders = [run.path.resolve() for run in group]
            above = Path(commonpath(folders))
            for run, folder in zip(group, folders, strict=True):
                found[run.path] += f" ({folder.relative_to(above)})"
    return found


def _folder(path: Path, inputs: Inputs, tables: list[Path]) -> None:
    """Runs below ``path``, else its tables; and the proposals and reports in it."""
    proposed = (path / PROPOSAL).exists()
    if proposed:
        _json(path / PROPOSAL, inputs)
    if next(path.rglob("run.json"), None) is None:
        if any(p.suffix in TABLES for p in path.iterdir()):
            tables.append(path)
        elif not proposed:
            raise UserError(f"'{path}' holds no runs, no .csv or .parquet tables and no {PROPOSAL}")
        return
    runs = find_runs([path])
    done = [run for run in runs if (run.path / "metrics.json").exists()]
    if not done:
        raise UserError(
            f"'{path}' holds no finished run; give its `olmeval run` command again to finish one"
        )
    known = {run.path.resolve() for run in inputs.runs}
    inputs.runs += [run for run in done if run.path.resolve() not in known]
    if len(done) < len(runs):
        inputs.notes.append(f"{len(runs) - len(done)} unfinished runs in '{path}' are left out")


def _json(path: Path, inputs: Inputs) -> None:
    value = read_json(path)
    kind = _kind(value)
    if kind is None:
        raise UserError(
            f"'{path}' is no file that a report shows; give those of `olmeval ladder report`, "
            "`olmix report`, `olmix optimize` or `olmeval gate check --output`"
        )
    named: Named = getattr(inputs, kind)
    # A proposal's folder says more than the name that all proposals have.
    name = path.resolve().parent.name if path.name == PROPOSAL else path.stem
    if kind == "ladders":
        name = str(value.get("ladder", name))
    named[_free(name, named)] = value


def _kind(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return None
    format_ = str(value.get("format", ""))
    if format_.startswith("olmeval-ladder-report/"):
        return "ladders"
    if format_.startswith("olmeval-mixing-report/"):
        return "mixtures"
    if {"level", "targets", "back_test", "warnings"} <= value.keys():
        return "ladders"
    if value.keys() >= PROPOSED:
        return "proposals"
    if {"run", "baseline", "summary", "findings", "exit_code"} <= value.keys():
        return "gates"
    return None


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """``name``, numbered where two files have it."""
    if name not in taken:
        return name
    number = 2
    while f"{name} ({number})" in taken:
        number += 1
    return f"{name} ({number})"
