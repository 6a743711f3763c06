"""The long table from anywhere: run folders, our own CSV or Parquet, or foreign files with a map.

Everything is read by DuckDB, so that hundreds of thousands of rows take a fraction of a second.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olmeval.config import load_config
from olmeval.errors import UserError, nearest
from olmeval.results.run import LONG_COLUMNS, find_runs, long_table
from olmeval.results.table_map import UNITS, Column, TableMap

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

REQUIRED = ("model", "task", "metric", "value", "higher_is_better")
TEXT = ("run", "model", "family", "mix", "task", "metric")
NUMBERS = ("params", "params_total", "tokens", "flops", "step", "seed", "value", "stderr", "n")
KEY = ("run", "params", "mix", "seed", "step", "task", "metric")
SUFFIXES = {".csv", ".parquet"}


def load_table(paths: Sequence[str | Path], mapping: str | Path | None = None) -> "pd.DataFrame":
    """The long table (:data:`LONG_COLUMNS`) of ``paths``, checked.

    A path is a CSV or Parquet file, a folder of such files, or a folder of runs; with ``mapping``
    (a YAML file, :class:`TableMap`) files have foreign columns. Rows without a value are left out.
    Raises :class:`UserError` for: a column that is missing or not numeric, a value that is not
    finite, and two rows that claim to be the same score.
    """
    import duckdb
    import pandas as pd

    chosen = None if mapping is None else load_config(Path(mapping), TableMap)
    frames = []
    with duckdb.connect() as connection:
        for path in map(Path, paths):
            if not path.exists():
                raise UserError(f"'{path}' does not exist; give a CSV, a Parquet file or a folder")
            files = _files(path)
            for file in files:
                frame = _read(file, connection)
                frames.append(_own(frame, file) if chosen is None else _mapped(frame, file, chosen))
            if not files:
                frames.append(_runs(path))
    table = pd.concat([f for f in frames if len(f)] or frames, ignore_index=True)
    if chosen is not None:
        table = _combined(table, chosen)
    return checked(table, ", ".join(map(str, paths)))


def query_table(sql: str, table: "pd.DataFrame") -> "pd.DataFrame":
    """The answer of a DuckDB query in which the long table is called ``t``.

    The query runs on a connection that can read no file and no network. Raises
    :class:`UserError` with DuckDB's own words.
    """
    import duckdb

    with duckdb.connect() as connection:
        connection.register("t", table)
        connection.execute("SET enable_external_access = false")
        try:
            answer: pd.DataFrame = connection.execute(sql).df()
        except duckdb.Error as error:
            raise UserError(f"the query failed: {' '.join(str(error).split())}") from None
    return answer


def _files(path: Path) -> list[Path]:
    """Table files at ``path``; none where it is a folder that holds runs."""
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise UserError(f"'{path}' is neither .csv nor .parquet")
        return [path]
    if next(path.rglob("run.json"), None) is not None:
        return []
    files = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES)
    if not files:
        raise UserError(f"'{path}' holds neither runs nor .csv or .parquet files")
    return files


def _runs(path: Path) -> "pd.DataFrame":
    import warnings

    runs = find_runs([path])
    done = [run for run in runs if (run.path / "metrics.json").exists()]
    if len(done) < len(runs):
        warnings.warn(f"{len(runs) - len(done)} unfinished runs are left out", stacklevel=2)
    return long_table(done)


def _read(path: Path, connection: "duckdb.DuckDBPyConnection") -> "pd.DataFrame":
    """One CSV or Parquet file as it is. Raises :class:`UserError` with DuckDB's own words."""
    import duckdb

    reader = "read_csv" if path.suffix == ".csv" else "read_parquet"
    # A CSV is read to its end before its types are settled (the first rows may all be empty), and
    # nothing is a date or a truth value: 't' is a name and 'inf' a number.
    options = (
        ", sample_size = -1, auto_type_candidates = ['BIGINT', 'DOUBLE', 'VARCHAR']"
        if path.suffix == ".csv"
        else ""
    )
    try:
        frame: pd.DataFrame = connection.execute(
            f"SELECT * FROM {reader}($1{options})", [str(path)]
        ).df()
    except duckdb.Error as error:
        raise UserError(f"cannot read '{path}': {' '.join(str(error).split())}") from None
    return frame


def _own(frame: "pd.DataFrame", path: Path) -> "pd.DataFrame":
    missing = [name for name in REQUIRED if name not in frame]
    if missing:
        raise UserError(
            f"'{path}' has no column '{missing[0]}'{nearest(missing[0], map(str, frame.columns))}; "
            "name its columns in a mapping file (--map)"
        )
    return frame.reindex(columns=list(LONG_COLUMNS))


def _mapped(frame: "pd.DataFrame", path: Path, chosen: TableMap) -> "pd.DataFrame":
    """The rows of one foreign file."""
    import pandas as pd

    base: dict[str, Any] = {str(name): value for name, value in chosen.constants.items()}
    if chosen.path is not None:
        found = re.search(chosen.path, path.as_posix())
        if found is None:
            raise UserError(f"the path '{path}' does not match '{chosen.path}' of the mapping")
        base.update(found.groupdict())
    out = pd.DataFrame({name: [value] * len(frame) for name, value in base.items()})
    # Translations read other columns of ours, so they come last.
    for name, source in sorted(chosen.columns.items(), key=lambda item: item[1].of is not None):
        out[name] = _column(name, source, frame, out, path)
    if chosen.scores:
        out = _unpivoted(out, frame, chosen, path)
    if "run" not in out:
        out["run"] = out["model"]
    return out.reindex(columns=list(LONG_COLUMNS))


def _column(
    name: str, source: Column, frame: "pd.DataFrame", out: "pd.DataFrame", path: Path
) -> Any:
    if source.of is not None:
        if source.of not in out:
            raise UserError(f"the mapping makes '{name}' of '{source.of}', which nothing gives")
        return [
            source.values.get(str(value), source.default)
            for value in out[source.of].astype(object).tolist()
        ]
    theirs = [source.column] if source.column is not None else list(source.product)
    for column in theirs:
        if column not in frame:
            if source.optional:
                return None
            raise UserError(
                f"'{path}' has no column '{column}'{nearest(str(column), map(str, frame.columns))} "
                f"for '{name}'; set 'optional: true' where some files lack it"
            )
    if name in TEXT or name == "higher_is_better":
        return frame[theirs[0]]
    values = UNITS[source.unit] * _numbers(frame, str(theirs[0]), path)
    for column in theirs[1:]:
        values = values * _numbers(frame, str(column), path)
    return values


def _numbers(frame: "pd.DataFrame", column: str, path: Path) -> "pd.Series[float]":
    import pandas as pd

    try:
        return pd.to_numeric(frame[column]).astype(float)
    except (ValueError, TypeError) as error:
        raise UserError(f"'{path}': the column '{column}' is not numeric: {error}") from None


def _unpivoted(
    out: "pd.DataFrame", frame: "pd.DataFrame", chosen: TableMap, path: Path
) -> "pd.DataFrame":
    """One row a score of a wide file: ``out`` [checkpoints] repeated for each score column."""
    import numpy as np
    import pandas as pd

    named: list[tuple[str, str, bool]] = []
    values = []
    for scores in chosen.scores:
        for column in map(str, frame.columns):
            found = re.fullmatch(scores.columns, column)
            if found is None:
                continue
            groups = found.groupdict()
            metric = scores.metric or groups["metric"]
            named.append((groups["task"], metric, scores.higher_is_better))
            values.append(UNITS[scores.unit] * _numbers(frame, column, path).to_numpy())
    if not named:
        raise UserError(f"'{path}': no column matches any of the mapping's 'scores'")
    names = pd.DataFrame(named, columns=["task", "metric", "higher_is_better"])
    rows = np.tile(np.arange(len(out)), len(named))
    of_score = names.iloc[np.repeat(np.arange(len(named)), len(out))].reset_index(drop=True)
    repeated = out.iloc[rows].reset_index(drop=True)
    return pd.concat([repeated, of_score], axis=1).assign(value=np.concatenate(values))


def _combined(table: "pd.DataFrame", chosen: TableMap) -> "pd.DataFrame":
    """``table`` with the tasks of ``combine`` added."""
    import pandas as pd

    more = [table]
    keys = [c for c in LONG_COLUMNS if c not in ("task", "value", "stderr", "n")]
    for name, weights in chosen.combine.items():
        parts = table[table["task"].isin(list(weights)) & table["value"].notna()]
        absent = set(weights) - set(parts["task"])
        if absent:
            raise UserError(f"'combine' makes '{name}' of '{min(absent)}', which no file holds")
        weight = parts["task"].map(weights).astype(float)
        grouped = parts.assign(value=parts["value"] * weight, parts=1).groupby(
            keys, dropna=False, sort=False, as_index=False
        )
        whole = grouped.agg({"value": "sum", "parts": "sum"})
        whole = whole[whole["parts"] == len(weights)].drop(columns="parts")
        whole["value"] /= sum(weights.values())
        more.append(whole.assign(task=name).reindex(columns=list(LONG_COLUMNS)))
    return pd.concat(more, ignore_index=True) if len(more) > 1 else table


def checked(table: "pd.DataFrame", source: str) -> "pd.DataFrame":
    """A long table with types settled, without rows that have no value, and nothing twice.

    ``source`` is what errors name. Raises :class:`UserError` as :func:`load_table`.
    """
    import numpy as np
    import pandas as pd

    for name in NUMBERS:
        try:
            table[name] = pd.to_numeric(table[name]).astype(float)
        except (ValueError, TypeError) as error:
            raise UserError(f"{source}: the column '{name}' is not numeric: {error}") from None
    table = table[table["value"].notna()].reset_index(drop=True)
    if table.empty:
        raise UserError(f"{source}: no row has a value")
    table["run"] = table["run"].where(table["run"].notna(), table["model"])
    for name in TEXT:
        table[name] = table[name].astype("str").where(table[name].notna(), None)
    absent = [name for name in REQUIRED if table[name].isna().any()]
    if absent:
        raise UserError(f"{source}: {int(table[absent[0]].isna().sum())} rows lack '{absent[0]}'")
    table["higher_is_better"] = _booleans(table["higher_is_better"], "higher_is_better", source)
    if not np.isfinite(table["value"].to_numpy()).all():
        row = table[~np.isfinite(table["value"])].iloc[0]
        raise UserError(
            f"{source}: the value of task '{row['task']}', metric '{row['metric']}' of run "
            f"'{row['run']}' is not finite"
        )
    twice = _duplicates(table)
    if twice.any():
        row = table[twice].iloc[0]
        raise UserError(
            f"{source}: {int(twice.sum())} scores are there twice, first task '{row['task']}', "
            f"metric '{row['metric']}' of run '{row['run']}' at step {row['step']}; tell the rows "
            "apart by run, seed or step"
        )
    primary = table["primary"].astype(object)
    table["primary"] = _booleans(primary.where(primary.notna(), False), "primary", source)
    return table


def _booleans(column: "pd.Series[Any]", name: str, source: str) -> "pd.Series[bool]":
    words = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    found = {value: words.get(str(value).lower()) for value in column.unique()}
    wrong = [value for value, truth in found.items() if truth is None]
    if wrong:
        raise UserError(f"{source}: '{name}' is '{wrong[0]}'; it is true or false")
    return column.map(found).astype(bool)


def _duplicates(table: "pd.DataFrame") -> Any:
    """Whether an earlier row has the same :data:`KEY` [rows].

    One integer a row is compared: hashing seven columns of strings costs ten times as much.
    """
    import numpy as np
    import pandas as pd

    code = np.zeros(len(table), np.int64)
    for name in KEY:
        codes, values = pd.factorize(table[name], use_na_sentinel=False)
        # Renumbered after each column, so that the product of the counts cannot overflow.
        code = pd.factorize(code * len(values) + codes)[0]
    return pd.Series(code).duplicated().to_numpy()
