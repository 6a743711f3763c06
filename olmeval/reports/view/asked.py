"""What a list of instances is asked to be, checked: filters and orders, as DuckDB reads them."""

from dataclasses import dataclass
from typing import Any

from olmeval.errors import UserError
from olmeval.reports.view.catalog import Entry

# ``v`` and ``w`` are the metric's values of the run and of the one beside it; a value of a half or
# more counts as right (a tie of two choices is worth a half).
FILTERS = {
    "all": "true",
    "wrong": "v < 0.5",
    "right": "v >= 0.5",
    "partial": "v > 0 and v < 1",
    "flipped": "(v >= 0.5) <> (w >= 0.5)",
    "lost": "v >= 0.5 and w < 0.5",
    "gained": "v < 0.5 and w >= 0.5",
    "truncated": "status = 'truncated' or other_status = 'truncated'",
    "errors": "status = 'error' or other_status = 'error'",
    "length": "doc_id in (select doc_id from length)",
    "cheats": "doc_id in (select doc_id from cheats)",
    "unparsed": "doc_id in (select doc_id from unparsed)",
    "unmatched": "other_status is null",
}
JUDGED = ("wrong", "right", "partial", "flipped", "lost", "gained")
PAIRED = ("flipped", "lost", "gained", "unmatched")
# Filters that need what a run counts in its counters.
COUNTED = {
    "length": "length_limited", "cheats": "code_suspected_cheats", "unparsed": "unparsed"
}  # fmt: skip
SORTS = {
    "document": "doc_id",
    "lowest": "v nulls last, doc_id",
    "highest": "v desc nulls last, doc_id",
    "change": "abs(w - v) desc nulls last, doc_id",
    "drop": "w - v nulls last, doc_id",
    "rise": "w - v desc nulls last, doc_id",
}


@dataclass(frozen=True)
class Asked:
    """A list of instances: of ``task`` in ``run``, beside ``other`` if there is one."""

    run: Entry
    task: str
    metric: str
    other: Entry | None = None
    filter: str = "all"
    sort: str = "document"
    text: str = ""

    @property
    def result(self) -> dict[str, Any]:
        """The task's entry in ``metrics.json``. Raises :class:`UserError`."""
        return result_of(self.run, self.task)

    @property
    def judged(self) -> bool:
        """Whether the metric says right or wrong of an instance (bits per byte does not)."""
        return bool(self.result["metrics"].get(self.metric, {}).get("higher_is_better"))

    @property
    def order(self) -> str:
        """What the list is ordered by, in SQL; flipped instances come before greater changes."""
        flipped = f"({FILTERS['flipped']}) desc nulls last, "
        return flipped * (self.judged and self.sort == "change") + SORTS[self.sort]

    @property
    def filters(self) -> list[str]:
        """The filters that mean something here."""
        return [
            name
            for name in FILTERS
            if (self.judged or name not in JUDGED)
            and (self.other or name not in PAIRED)
            and self._has(COUNTED.get(name))
        ]

    @property
    def generates(self) -> bool:
        """Whether the task's answers are texts."""
        return "length_limited" in self.result["counters"]

    def _has(self, counter: str | None) -> bool:
        """Whether one of the runs counted such a thing; None: nothing needs to be counted."""
        runs = [self.run] if self.other is None else [self.run, self.other]
        return counter is None or any(
            result_of(r, self.task)["counters"].get(counter) for r in runs
        )


def result_of(run: Entry, task: str) -> dict[str, Any]:
    """A task's entry in ``metrics.json``. Raises :class:`UserError` when there is none."""
    tasks = run.metrics["tasks"]
    if task not in tasks:
        raise UserError(f"run '{run.id}' has no task '{task}'")
    found: dict[str, Any] = tasks[task]
    return {"counters": {}, **found}


def ask(
    run: Entry,
    task: str,
    *,
    metric: str = "",
    other: Entry | None = None,
    filter_: str = "",
    sort: str = "",
    text: str = "",
) -> Asked:
    """A checked :class:`Asked`, with defaults for what is empty. Raises :class:`UserError`."""
    result = result_of(run, task)
    metric = metric or str(result["primary_metric"])
    if metric not in result["metrics"]:
        known = ", ".join(result["metrics"]) or "none, since no instance could be scored"
        raise UserError(f"task '{task}' has no metric '{metric}'; it has {known}")
    if other is not None and task not in other.metrics["tasks"]:
        other = None
    sort = sort or ("document" if other is None else "change")
    if sort not in SORTS:
        raise UserError(f"unknown order '{sort}'; known: {', '.join(SORTS)}")
    asked = Asked(run, task, metric, other, filter_ or "all", sort, text.strip())
    if asked.filter not in asked.filters:
        raise UserError(
            f"the filter '{asked.filter}' does not apply here; known: {', '.join(asked.filters)}"
        )
    return asked
