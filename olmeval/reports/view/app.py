"""What the page asks for, by name: each answer is a JSON-ready value."""

import re
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from olmeval import __version__
from olmeval.errors import UserError
from olmeval.reports.view.asked import SORTS, Asked, ask
from olmeval.reports.view.catalog import Catalog, Entry
from olmeval.reports.view.detail import boundaries, describe, shared_prefix, snippets
from olmeval.reports.view.listing import PAGE, Instances
from olmeval.reports.view.tokens import Tokenizers

# Questions that are answered at the same time; a page asks a few.
AT_ONCE = 4
KEPT_DIFFERENCES = 500
Query = Mapping[str, str]


class App:
    """The answers behind the page, over the runs at or below ``paths``.

    ``tokenizers`` are folders to look for a tokenizer in, beside those of the models. Raises
    :class:`UserError` when a path does not exist or no run is there.
    """

    def __init__(self, paths: Sequence[Path], tokenizers: Sequence[Path] = ()):
        self.catalog = Catalog(paths)
        if not self.catalog.entries():
            listed = ", ".join(f"'{path}'" for path in paths)
            raise UserError(
                f"no run is in or below {listed}; `olmeval run … --output DIR` writes them"
            )
        self._temporary = tempfile.TemporaryDirectory(prefix="olmeval-view-")
        self.folder = Path(self._temporary.name)  # readable by its owner alone
        self._instances = Instances(self.folder)
        self._tokenizers = Tokenizers(tokenizers)
        self._at_once = threading.Semaphore(AT_ONCE)
        self._differences: OrderedDict[object, Any] = OrderedDict()
        self._answers: dict[str, Callable[[Query], Any]] = {
            "runs": self._runs,
            "tasks": self._tasks,
            "difference": self._difference,
            "instances": self._list,
            "counts": self._counts,
            "snippets": self._snippets,
            "instance": self._instance,
            "tokens": self._tokens,
        }

    def close(self) -> None:
        self._temporary.cleanup()

    def knows(self, name: str) -> bool:
        return name in self._answers

    def answer(self, name: str, query: Query) -> Any:
        """The answer to a question. Raises :class:`UserError` for what cannot be answered."""
        with self._at_once:
            return self._answers[name](query)

    def _run(self, query: Query, name: str = "run") -> Entry:
        return self.catalog.get(query.get(name, ""))

    def _other(self, query: Query) -> Entry | None:
        return self._run(query, "with") if query.get("with") else None

    def _asked(self, query: Query) -> Asked:
        return ask(
            self._run(query),
            query.get("task", ""),
            metric=query.get("metric", ""),
            other=self._other(query),
            filter_=query.get("filter", ""),
            sort=query.get("sort", ""),
            text=query.get("q", ""),
        )

    def _runs(self, _: Query) -> Any:
        return {
            "version": __version__,
            "folders": [str(path) for path in self.catalog.paths],
            "runs": [entry.about() for entry in self.catalog.entries()],
        }

    def _tasks(self, query: Query) -> Any:
        run, other = self._run(query), self._other(query)
        beside = {} if other is None else other.metrics["tasks"]
        return {
            "tasks": [
                _summary(name, result, beside.get(name))
                for name, result in run.metrics["tasks"].items()
            ]
        }

    def _difference(self, query: Query) -> Any:
        asked = self._asked({k: v for k, v in query.items() if k not in ("filter", "q", "sort")})
        if asked.other is None:
            return None
        key = (_version(asked.run), _version(asked.other), asked.task, asked.metric)
        if key not in self._differences:
            self._differences[key] = self._instances.difference(asked)
            while len(self._differences) > KEPT_DIFFERENCES:
                self._differences.popitem(last=False)
        return self._differences[key]

    def _list(self, query: Query) -> Any:
        """One page; ``doc`` asks for the page that has that document."""
        asked = self._asked(query)
        offset = _whole(query, "offset")
        if query.get("doc"):
            place = self._instances.position(asked, _whole(query, "doc"))
            offset = 0 if place is None else place // PAGE * PAGE
        return {
            "metric": asked.metric,
            "judged": asked.judged,
            "filter": asked.filter,
            "sort": asked.sort,
            "sorts": list(SORTS) if asked.other else ["document", "lowest", "highest"],
            "total": self._instances.total(asked),
            "offset": offset,
            "page": PAGE,
            "rows": self._instances.page(asked, offset),
        }

    def _counts(self, query: Query) -> Any:
        asked = self._asked({k: v for k, v in query.items() if k not in ("filter", "q", "sort")})
        return self._instances.counts(asked)

    def _snippets(self, query: Query) -> Any:
        listed = query.get("docs", "")
        if not re.fullmatch(r"\d{1,18}(,\d{1,18})*", listed):
            raise UserError("docs are numbers with commas between them")
        docs = [int(doc) for doc in listed.split(",")][:PAGE]
        return snippets(self._run(query), query.get("task", ""), docs)

    def _instance(self, query: Query) -> Any:
        task, doc = query.get("task", ""), _whole(query, "doc")
        run, other = self._run(query), self._other(query)
        sides: list[dict[str, Any] | None] = []
        for entry in (run, other):
            values = [] if entry is None else self._instances.values(entry, task, doc)
            if entry is None or not values:
                sides.append(None)
                continue
            graded = self._instances.samples(entry, task, doc)
            sides.append(describe(entry, task, doc, values, graded))
        if sides[0] is None:
            raise UserError(f"task '{task}' of run '{run.id}' has no document {doc}")
        shared = shared_prefix(run, task, doc, sides[0]["prompt"]) if sides[0]["prompt"] else 0
        return {"shared": shared, "sides": sides if other else sides[:1]}

    def _tokens(self, query: Query) -> Any:
        """Those of one instance; without ``doc`` nothing, but soon after they come at once."""
        run = self._run(query)
        if not query.get("doc"):
            self._tokenizers.prepare(run.info)
            return None
        return boundaries(
            run, query.get("task", ""), _whole(query, "doc"), self._tokenizers,
            self.catalog.entries(),
        )  # fmt: skip


def _summary(name: str, result: Mapping[str, Any], other: Mapping[str, Any] | None) -> Any:
    """A task's line: its primary score in both runs, and what went wrong."""
    metric = result["primary_metric"]
    score = result["metrics"].get(metric)
    beside = None if other is None else other["metrics"].get(metric)
    return {
        "name": name,
        "metric": metric,
        "metrics": list(result["metrics"]),
        "instances": result["instances"],
        "errors": result["errors"],
        "counters": result.get("counters") or {},
        "score": score,
        "other": beside,
        "same": other is None or other.get("hash") == result.get("hash"),
    }


def _whole(query: Query, name: str) -> int:
    text = query.get(name) or "0"
    if not re.fullmatch(r"\d{1,18}", text):
        raise UserError(f"{name} is a whole number, not '{text[:40]}'")
    return int(text)


def _version(run: Entry) -> tuple[str, int]:
    return run.id, (run.path / "instances.parquet").stat().st_mtime_ns
