"""The two tables of a swarm: ``ratios.csv``, shares of domains, and ``metrics.csv``, scores.

Both have one row a run and are joined by the run's key, never by position. Domains, targets and
runs are kept in the order of their names, so that nothing further on depends on the order of rows
or columns in a file.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from olmeval.errors import UserError, nearest
from olmeval.files import sha256_file
from olmeval.mixing.evidence import Contents, evidence_of
from olmeval.mixing.regressors.base import as_mixtures

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
KEYS = ("run", "run_id", "name", "index")
"""Columns that name a run; the first that both files have joins them, the others are ignored."""


@dataclass(frozen=True)
class SwarmTable:
    """Mixtures and scores of a swarm's runs.

    ``X`` (K, m): shares, each row adding up to 1. ``Y`` (K, n): scores as they were measured.
    ``higher``: targets of which more is better. ``notes``: what was left out, as sentences.
    ``sources``: SHA-256 of the files by path.
    """

    runs: tuple[str, ...]
    domains: tuple[str, ...]
    targets: tuple[str, ...]
    X: Array
    Y: Array
    higher: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    sources: Mapping[str, str] | None = None
    contents: Contents = field(default_factory=dict)
    """Fingerprints of the domains that the scores speak of, where they are known."""

    def losses(self) -> Array:
        """``Y`` turned so that less is better and all is positive; see :meth:`reflections`."""
        reflections = self.reflections()
        return np.where(np.isnan(reflections), self.Y, reflections - self.Y)

    def reflections(self) -> Array:
        """For targets of which more is better, the score that counts as a loss of 0; else nan.

        1 for scores up to 1, 100 for scores up to 100, else the largest plus the range.
        """
        reflections = np.full(len(self.targets), np.nan)
        for j, target in enumerate(self.targets):
            if target in self.higher:
                low, top = float(self.Y[:, j].min()), float(self.Y[:, j].max())
                ends = [end for end in (1.0, 100.0) if low >= 0 and top <= end]
                reflections[j] = ends[0] if ends else top + (top - low)
        return reflections

    def grouped(self, groups: Mapping[str, Sequence[str]]) -> "SwarmTable":
        """The mean score of every group {name: targets} in place of the targets."""
        columns, higher = [], set()
        for name, members in sorted(groups.items()):
            if not members:
                raise UserError(f"the group '{name}' has no targets")
            places = [target_place(member, self.targets, f"group '{name}'") for member in members]
            turned = {member in self.higher for member in members}
            if len(turned) > 1:
                raise UserError(
                    f"the group '{name}' mixes targets of which more and less is better"
                )
            if turned.pop():
                higher.add(name)
            columns.append(self.Y[:, places].mean(axis=1))
        return replace(
            self,
            targets=tuple(sorted(groups)),
            Y=np.stack(columns, axis=1),
            higher=frozenset(higher),
        )

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> "SwarmTable":
        """Some of the runs."""
        runs = tuple(self.runs[i] for i in rows)
        return replace(self, runs=runs, X=self.X[rows], Y=self.Y[rows])


def read_swarm(
    ratios: Path,
    metrics: Path,
    *,
    targets: Iterable[str] = (),
    drop: Iterable[str] = (),
    higher: Iterable[str] = (),
) -> SwarmTable:
    """Reads and joins the two files; CSV, one row a run.

    A column of :data:`KEYS` names the run; every other column of ``ratios`` is a domain and of
    ``metrics`` a target, or those in ``targets`` only, less those in ``drop``. Of ``higher`` more
    is better. Runs that only one file has, or whose scores are incomplete, are left out and noted.

    Raises :class:`UserError` on tables that speak of different contents, doubled runs, shares that
    do not add up to 1 (by more than 0.01), cells that are not numbers and names that are not there.
    """
    left, right = _read(ratios), _read(metrics)
    key = next((k for k in KEYS if k in left and k in right), None)
    if key is None:
        raise UserError(
            f"'{ratios}' and '{metrics}' have no column in common that names a run; "
            f"one of {', '.join(KEYS)} must be in both"
        )
    shares, scores = _keyed(left, key, ratios), _keyed(right, key, metrics)
    chosen, dropped = sorted(set(targets)), set(drop)
    for name in [*chosen, *dropped, *higher]:
        target_place(name, list(scores.columns), f"'{metrics}'")
    kept = [name for name in chosen or sorted(scores.columns) if name not in dropped]
    if not kept:
        raise UserError(f"'{metrics}': no target is left to fit")
    shares, scores = shares[sorted(shares.columns)], scores[kept]
    notes = []
    both = shares.index.intersection(scores.index)
    for path, table in ((ratios, shares), (metrics, scores)):
        only = sorted(table.index.difference(both))
        if only:
            notes.append(f"{len(only)} runs are in '{path}' alone and left out: {_some(only)}")
    if not len(both):
        ones = "; ".join(f"'{i[0]}' in one" for i in (shares.index, scores.index) if len(i))
        raise UserError(
            f"'{ratios}' and '{metrics}' have no run in common in the column '{key}' ({ones})"
        )
    missing = scores.loc[both].isna()
    if missing.any(axis=None):
        holes = sorted(both[missing.any(axis=1)])
        notes.append(f"{len(holes)} runs lack scores and are left out: {_some(holes)}")
        both = both.difference(holes)
        if not len(both):
            never = [name for name in kept if scores[name].isna().all()]
            raise UserError(
                f"'{metrics}': every run lacks the score of some target; drop "
                f"{_some(never) if never else 'those with holes'}"
            )
    both = both.sort_values()
    x = shares.loc[both].to_numpy(np.float64)
    _check_shares(x, list(both), ratios)
    return SwarmTable(
        runs=tuple(both),
        domains=tuple(shares.columns),
        targets=tuple(scores.columns),
        X=as_mixtures(x),
        Y=scores.loc[both].to_numpy(np.float64),
        higher=frozenset(higher) & frozenset(kept),
        notes=tuple(notes),
        sources={str(path): sha256_file(path) for path in (ratios, metrics)},
        contents=evidence_of((ratios, metrics)),
    )


def read_ratios(path: Path) -> tuple[tuple[str, ...], tuple[str, ...], Array]:
    """Runs, domains and mixtures (K, m) of a ``ratios.csv`` alone, in the order of their names."""
    table = _read(path)
    key = next((k for k in KEYS if k in table), None)
    if key is None:
        raise UserError(f"'{path}' has no column that names a run; one of {', '.join(KEYS)}")
    shares = _keyed(table, key, path).sort_index()
    shares = shares[sorted(shares.columns)]
    x = shares.to_numpy(np.float64)
    _check_shares(x, list(shares.index), path)
    return tuple(shares.index), tuple(shares.columns), as_mixtures(x)


@dataclass(frozen=True)
class Rows:
    """Mixtures ``X`` (k, m) with their scores ``Y`` (k, n), nan where one is not known.

    ``notes``: what was left out, as sentences.
    """

    runs: tuple[str, ...]
    X: Array
    Y: Array
    notes: tuple[str, ...] = ()


def read_rows(
    ratios: Path,
    metrics: Path | None,
    domains: Sequence[str],
    targets: Sequence[str],
    groups: Mapping[str, Sequence[str]] | None = None,
) -> Rows:
    """Mixtures of known ``domains``, in that order, and what they scored on known ``targets``.

    Joined and checked as :func:`read_swarm` does, but runs that lack scores stay, and columns of
    ``metrics`` that are no target are ignored. ``groups`` {target: columns}: targets that are the
    mean of columns. Raises :class:`UserError` on a domain that is missing, or one that is not
    known and has a share, and when no run has the score of any target.
    """
    left = _read(ratios)
    right = None if metrics is None else _read(metrics)
    key = next((k for k in KEYS if k in left and (right is None or k in right)), None)
    if key is None:
        where = f"'{ratios}' has no column" if metrics is None else (
            f"'{ratios}' and '{metrics}' have no column in common"
        )  # fmt: skip
        raise UserError(f"{where} that names a run; one of {', '.join(KEYS)}")
    shares = _keyed(left, key, ratios).sort_index()
    x = shares.to_numpy(np.float64)
    _check_shares(x, list(shares.index), ratios)
    lacking = [name for name in domains if name not in shares]
    if lacking:
        raise UserError(
            f"'{ratios}' has no column '{lacking[0]}', a domain of the fit"
            f"{nearest(lacking[0], list(shares.columns))}"
        )
    unknown = [str(name) for name in shares.columns if name not in domains]
    used = [name for name in unknown if (shares[name] > 0).any()]
    if used:
        raise UserError(
            f"'{ratios}': '{used[0]}' is no domain of the fit, which cannot tell what a share of "
            f"it does{nearest(used[0], domains)}"
        )
    notes = (
        [f"'{ratios}': no run has any of {_some(unknown)}, unknown to the fit"] if unknown else []
    )
    runs, X = tuple(shares.index), as_mixtures(shares[list(domains)].to_numpy(np.float64))
    Y = np.full((len(runs), len(targets)), np.nan)
    if right is None or metrics is None:
        return Rows(runs, X, Y, tuple(notes))
    scores = _keyed(right, key, metrics)
    for path, odd in (
        (ratios, shares.index.difference(scores.index)),
        (metrics, scores.index.difference(shares.index)),
    ):
        if len(odd):
            notes.append(f"{len(odd)} runs are in '{path}' alone: {_some(sorted(odd))}")
    scores = scores.reindex(shares.index)
    absent = []
    for j, target in enumerate(targets):
        columns = list((groups or {}).get(target, (target,)))
        if all(column in scores for column in columns):
            Y[:, j] = scores[columns].mean(axis=1, skipna=False)
        else:
            absent.append(target)
    if len(absent) == len(targets):
        raise UserError(
            f"'{metrics}' has no target of the fit: there is no '{absent[0]}'"
            f"{nearest(absent[0], list(scores.columns))}"
        )
    if absent:
        notes.append(f"'{metrics}' lacks {_some(absent)}")
    if np.isnan(Y).all():
        raise UserError(f"'{metrics}': no run of '{ratios}' has the score of a target")
    return Rows(runs, X, Y, tuple(notes))


def _read(path: Path) -> "pd.DataFrame":
    import pandas as pd

    try:
        # The heading as a row: pandas would number the doubles of a name and keep them all.
        head = pd.read_csv(path, dtype=str, keep_default_na=False, header=None, nrows=1)
        names = head.iloc[0]
        doubled = sorted(set(names[names.duplicated() & (names != "")]))
        if doubled:
            raise UserError(f"'{path}' has more than one column '{doubled[0]}'; keep one")
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise UserError(f"'{path}' does not exist") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read '{path}' as CSV: {error}") from None
    # A frame written with its row numbers has a first column without a name.
    return table[[name for name in table.columns if not str(name).startswith("Unnamed:")]]


def _keyed(table: "pd.DataFrame", key: str, path: Path) -> "pd.DataFrame":
    import pandas as pd

    doubled = sorted(table[key][table[key].duplicated()].unique())
    if doubled:
        raise UserError(f"'{path}': the run {_some(doubled)} has more than one row")
    table = table.set_index(key)
    table = table[[name for name in table.columns if name not in KEYS]]
    columns = {}
    for name in table.columns:
        text = table[name].str.strip()
        numbers = pd.to_numeric(text, errors="coerce")
        wrong = numbers.isna() & ~text.str.lower().isin(["", "nan", "na", "null", "none"])
        if wrong.any():
            run, cell = next(
                (r, c) for r, c, bad in zip(text.index, text, wrong, strict=True) if bad
            )
            raise UserError(f"'{path}': '{name}' of run '{run}' is '{cell}', not a number")
        columns[name] = numbers.where(np.isfinite(numbers))
    return pd.DataFrame(columns, index=table.index)


def _check_shares(x: Array, runs: Sequence[str], path: Path) -> None:
    for i, run in enumerate(runs):
        if np.isnan(x[i]).any() or (x[i] < 0).any():
            raise UserError(f"'{path}': a share of run '{run}' is missing or negative")
        total = x[i].sum()
        if abs(total - 1) > 0.01:
            why = (
                "give fractions, not percent"
                if abs(total - 100) < 1
                else "every column but the run's name must be a domain"
            )
            raise UserError(
                f"'{path}': the shares of run '{run}' add up to {total:.4f}, not 1; {why}"
            )


def target_place(name: str, known: Sequence[str], where: str = "targets") -> int:
    """The place of a target among ``known``. Raises :class:`UserError` with the nearest names."""
    if name not in known:
        raise UserError(f"{where}: there is no target '{name}'{nearest(name, known)}")
    return list(known).index(name)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
