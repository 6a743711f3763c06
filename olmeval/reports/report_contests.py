"""Which run is better, by how much, and is it significant: the answer at the top of a report.

A contest is one figure of merit: a suite, or where there is none the mean of all tasks of one
kind (scores, of which more is better, or a loss such as bits per byte). Runs are ranked by it and
held against the leader, or against the run that the reader named as baseline.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan, sqrt
from typing import Any

from olmeval.errors import UserError, nearest
from olmeval.reports.report_entries import (
    BY_CHECKPOINTS,
    LEVEL,
    SUITE,
    Entry,
    Pairs,
    Score,
    add_noise,
    add_seeds,
    normal_p,
)
from olmeval.reports.report_seeds import with_seeds
from olmeval.stats.mean import Z95
from olmeval.stats.paired import holm

RIVALS = 7
CONTESTS = 4
KINDS = {"bits_per_byte": "bits per byte"}


@dataclass(frozen=True)
class Standing:
    """A run's place: its mean ± stderr, and how much better the reference is than it.

    ``gain`` with its 95 % interval ``low`` to ``high``; ``p`` Holm-corrected over the rivals. All
    nan for the reference itself and for runs that were not compared. ``p_noise``, not corrected,
    holds the spread of the last checkpoints, too; ``by_checkpoints``: the error of the questions is
    unknown, and that spread alone makes interval and p. ``ahead`` and ``behind``
    count tasks on which the reference is better or worse, ``sure`` those of each that are
    significant after Holm's correction over tasks, ``noisy`` those that stay so at 0.05 when the
    noise of checkpoints is added (None where it is unknown).
    """

    entry: Entry
    value: float
    stderr: float
    gain: float = nan
    low: float = nan
    high: float = nan
    p: float = nan
    p_noise: float = nan
    by_checkpoints: bool = False
    ahead: int = 0
    behind: int = 0
    sure: tuple[int, int] = (0, 0)
    noisy: tuple[int, int] | None = None

    @property
    def verdict(self) -> str:
        """Of the reference against it: better, worse, level (cannot tell) or unknown."""
        if isnan(self.p):
            return "unknown"
        return "level" if self.p > LEVEL else "better" if self.gain > 0 else "worse"


@dataclass(frozen=True)
class Contest:
    """``standings``, best first; ``reference`` is the leader, or the baseline."""

    name: str
    scores: tuple[Score, ...]
    higher_is_better: bool
    reference: Entry
    standings: tuple[Standing, ...]
    left_out: tuple[Entry, ...]

    @property
    def rivals(self) -> tuple[Standing, ...]:
        """Those that the reference was compared with, best first."""
        return tuple(s for s in self.standings if not isnan(s.gain))


def contests(
    entries: Sequence[Entry],
    pairs: Pairs,
    baseline: str | None = None,
    suites: Mapping[str, Sequence[str]] | None = None,
) -> list[Contest]:
    """The contests of ``entries``, at most :data:`CONTESTS`, each with a suite or a kind.

    ``suites``: {suite: its members} where known; one that is part of another is no contest of its
    own. Raises :class:`UserError` for a baseline that is no run.
    """
    held = None
    if baseline is not None:
        held = next((e for e in entries if baseline in names(e, pairs)), None)
        if held is None:
            known = [e.label for e in entries]
            raise UserError(
                f"--baseline '{baseline}' is none of the runs{nearest(baseline, known)}; there are "
                f"{', '.join(known[:6])}"
            )
    found: list[Contest] = []
    for name, scores in _kinds(entries, suites or {}):
        if held is not None and not any(s in held.scores for s in scores):
            pairs.notes.append(f"the baseline {held.label} has no score of '{name}'")
        elif len(found) == CONTESTS:
            pairs.notes.append(f"'{name}' has no card of its own; see Scores")
        else:
            members = set(tasks_of(name, suites or {}))
            found.append(_contest(name, scores, members, entries, pairs, held))
    return found


def names(entry: Entry, pairs: Pairs) -> set[str]:
    """What a person may call an entry: its label, run, model, mixture, or the run of a seed."""
    first = next(iter(entry.scores.values()))
    seeds = pairs.seeds[entry.run_name].runs if entry.run_name in pairs.seeds else ()
    called = {str(first[k]) for k in ("run", "model", "mix") if first.get(k)}
    return {entry.label, *called, *(run for run, _ in seeds)}


def _kinds(
    entries: Sequence[Entry], known: Mapping[str, Sequence[str]]
) -> list[tuple[str, list[Score]]]:
    """Names and scores of what can be contested: suites, else kinds of scores."""
    members = {member for of_suite in known.values() for member in of_suite}
    directions: dict[Score, bool] = {}
    for entry in entries:
        for score, row in entry.scores.items():
            directions.setdefault(score, bool(row["higher_is_better"]))
    suites = [s for s in directions if s[1] == SUITE]
    top = [s for s in suites if s[0] not in members] or suites
    if top:
        return [(task, [(task, metric)]) for task, metric in top]
    found: dict[str, list[Score]] = {}
    for score, upward in directions.items():
        kind = "score" if upward else KINDS.get(score[1], score[1])
        found.setdefault(kind, []).append(score)
    return sorted(found.items(), key=lambda kind: kind[0] != "score")


def tasks_of(suite: str, known: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """The tasks of a suite and of the suites in it."""
    for member in known.get(suite, ()):
        if member in known:
            yield from tasks_of(member, known)
        else:
            yield member


def _contest(
    name: str,
    scores: Sequence[Score],
    members: set[str],
    entries: Sequence[Entry],
    pairs: Pairs,
    held: Entry | None,
) -> Contest:
    shared, able = _covered(scores, entries, held)
    upward = bool(able[0].scores[shared[0]]["higher_is_better"])
    placed = []
    for e in able:
        value, error = mean_of([e.scores[s] for s in shared])
        placed.append(Standing(e, value, with_seeds(error, pairs.between_seeds(e, shared))))
    placed.sort(key=lambda s: s.value, reverse=upward)
    reference = held or placed[0].entry
    compared = [s for s in placed if s.entry is not reference][:RIVALS]
    full = [_against(s, reference, pairs, shared, members) for s in compared]
    known = [s for s in full if not isnan(s.p)]
    adjusted = dict(zip((s.entry.label for s in known),
                        holm([s.p for s in known]).tolist(), strict=True))  # fmt: skip
    done = {
        s.entry.label: Standing(**{**vars(s), "p": adjusted.get(s.entry.label, nan)}) for s in full
    }
    kept = tuple(done.get(s.entry.label, s) for s in placed)
    title = f"mean {name} of {len(shared)} tasks" if len(shared) > 1 else name
    if len(scores) == 1 and scores[0][1] != SUITE:
        title = f"{scores[0][0]} ({scores[0][1]})"
    left = tuple(e for e in entries if e not in able)
    return Contest(title, tuple(shared), upward, reference, kept, left)


def _covered(
    scores: Sequence[Score], entries: Sequence[Entry], held: Entry | None
) -> tuple[list[Score], list[Entry]]:
    """Scores that entries share, and those entries: all of them where that is possible.

    Else the scores of the baseline, or of the entry that has most.
    """
    shared = [s for s in scores if all(s in e.scores for e in entries)]
    if shared:
        return shared, list(entries)
    most = held or max(entries, key=lambda e: sum(s in e.scores for s in scores))
    shared = [s for s in scores if s in most.scores]
    return shared, [e for e in entries if all(s in e.scores for s in shared)]


def mean_of(rows: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Mean of the rows' values and the error of its questions (:func:`joint_error`)."""
    errors = [
        (str(r["task"]), nan if r["questions"] is None else float(r["questions"])) for r in rows
    ]
    return sum(float(r["value"]) for r in rows) / len(rows), joint_error(errors)


def joint_error(errors: Sequence[tuple[str, float]]) -> float:
    """Standard error of a mean over tasks, from (task, standard error).

    Tasks of one family (the name before its first colon) may ask the same questions and are taken
    as fully correlated, an upper bound; families are independent:
    sqrt(sum over families of (sum of errors)^2) / k.
    """
    by_family: dict[str, float] = {}
    for task, error in errors:
        family = task.partition(":")[0]
        by_family[family] = by_family.get(family, 0.0) + error
    return sqrt(sum(total**2 for total in by_family.values())) / len(errors)


def _against(
    standing: Standing,
    reference: Entry,
    pairs: Pairs,
    shared: Sequence[Score],
    members: set[str],
) -> Standing:
    """``members``: the tasks of the suite that is contested, where they are known."""
    everything = pairs.between(reference, standing.entry).to_dict("records")
    rows = [r for r in everything if (r["task"], r["metric"]) in set(shared)]
    if len(rows) == 1:
        # The very test of that score, not a normal one of its mean.
        found = {str(k): v for k, v in rows[0].items()}
    else:
        gain = sum(r["gain"] for r in rows) / len(rows)
        paired = [r["questions"] if r["test"] != BY_CHECKPOINTS else nan for r in rows]
        stderr = joint_error([(r["task"], e) for r, e in zip(rows, paired, strict=True)])
        found = {"gain": gain, "stderr": stderr, "p": normal_p(gain, stderr), "test": "",
                 "low": gain - Z95 * stderr, "high": gain + Z95 * stderr,
                 "n": min(r["n"] for r in rows), "questions": stderr}  # fmt: skip
        both = (reference, standing.entry)
        different = [] if reference.index == standing.entry.index else both
        seeds = pairs.seeds_apart(reference, standing.entry, shared)
        add_seeds(found, seeds)
        add_noise(found, [pairs.spread(e, shared) for e in different], seeds)
    of_suite = shared[0][1] == SUITE
    tasks = [
        r
        for r in everything
        if r["metric"] != SUITE
        and (
            (not members or r["task"] in members)
            if of_suite
            else (r["task"], r["metric"]) in shared
        )
    ]
    noises = [r["p_noise"] for r in tasks]
    known = bool(tasks) and not any(isnan(q) for q in noises)
    return Standing(
        standing.entry, standing.value, standing.stderr, found["gain"], found["low"],
        found["high"], found["p"], found["p_noise"], found["test"] == BY_CHECKPOINTS,
        sum(r["gain"] > 0 for r in tasks), sum(r["gain"] < 0 for r in tasks),
        _significant(tasks, [r["p_holm"] for r in tasks]),
        _significant(tasks, holm(noises).tolist()) if known else None,
    )  # fmt: skip


def _significant(rows: Sequence[dict[Any, Any]], p: Sequence[float]) -> tuple[int, int]:
    """How many gains and how many losses are significant."""
    sure = [r["gain"] for r, q in zip(rows, p, strict=True) if q <= LEVEL]
    return sum(g > 0 for g in sure), sum(g < 0 for g in sure)
