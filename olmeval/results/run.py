"""A run folder as an object, and the long table over many of them."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olmeval.errors import UserError
from olmeval.files import read_json

if TYPE_CHECKING:
    import pandas as pd

LONG_COLUMNS = (
    "run", "model", "family", "params", "params_total", "tokens", "flops", "step", "seed", "mix",
    "task", "metric", "value", "stderr", "n", "higher_is_better", "primary",
)  # fmt: skip


class Run:
    """The results of one checkpoint: ``run.json``, ``metrics.json`` and the Parquet files."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not (self.path / "run.json").exists():
            raise UserError(f"'{self.path}' is not a run folder: it holds no run.json")

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @cached_property
    def name(self) -> str:
        """What the long table calls it: the trained run's name, else the folder's.

        Numbered folders beside a model's own one say themselves what they are called, unless a
        person has renamed them.
        """
        folder = self.path.resolve().name
        beside = self.info.get("beside", {})
        if beside.get("folder") == folder:
            return str(beside["run"])
        return str(self.info["model"]["metadata"].get("run", folder))

    @cached_property
    def info(self) -> dict[str, Any]:
        """What was asked and resolved (``run.json``)."""
        info: dict[str, Any] = read_json(self.path / "run.json")
        return info

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Task scores, errors and counters (``metrics.json``)."""
        path = self.path / "metrics.json"
        if not path.exists():
            raise UserError(
                f"'{self.path}' has no scores yet (status: {self.info['status']}); run the same "
                "`olmeval run` command again to finish it"
            )
        metrics: dict[str, Any] = read_json(path)
        return metrics

    def table(self) -> "pd.DataFrame":
        """The run's part of the long table (:data:`LONG_COLUMNS`)."""
        import pandas as pd

        return pd.DataFrame(self.rows(), columns=list(LONG_COLUMNS))

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary per (task, metric); complete suites first, as metric ``primary_score``."""
        model = self.info["model"]
        trained = model["metadata"]
        common = {
            "run": self.name,
            "model": model["name"],
            "family": trained.get("family"),
            "params": model["params"],
            "params_total": model["params_total"],
            "tokens": trained.get("tokens"),
            "flops": trained.get("flops"),
            "step": trained.get("step"),
            "seed": trained.get("seed"),
            "mix": trained.get("mix"),
        }
        of_suites = [
            {
                **common,
                "task": name,
                "metric": "primary_score",
                **{k: score[k] for k in ("value", "stderr", "n", "higher_is_better")},
                "primary": True,
            }
            for name, score in self.metrics.get("suites", {}).items()
            if score["status"] == "complete"
        ]
        return of_suites + [
            {
                **common,
                "task": task,
                "metric": name,
                **{k: score[k] for k in ("value", "stderr", "n", "higher_is_better")},
                "primary": name == result["primary_metric"],
            }
            for task, result in self.metrics["tasks"].items()
            for name, score in result["metrics"].items()
        ]

    def instances(self) -> "pd.DataFrame":
        """Document by metric: task, doc_id, native_id, cluster, status, metric, value."""
        import pandas as pd

        return pd.read_parquet(self.path / "instances.parquet")


class JoinedRun(Run):
    """One checkpoint's results from several folders, each with other tasks.

    It reads like a :class:`Run`; ``path`` is the first folder, and a task that several folders
    hold, which asks the same there, is taken from the first.
    """

    def __init__(self, runs: Sequence[Run]):
        super().__init__(runs[0].path)
        self.parts = list(runs)

    @cached_property
    def name(self) -> str:
        return self.parts[0].name

    @cached_property
    def info(self) -> dict[str, Any]:
        """The first folder's ``run.json`` with the tasks of all."""
        infos = [run.info for run in self.parts]
        failing = [info["status"] for info in infos if info["status"] != "complete"]
        return {
            **infos[0],
            "status": (failing or ["complete"])[0],
            "tasks": _union(info.get("tasks", {}) for info in infos),
        }

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """The scores of all folders; counts of requests and tokens are sums."""
        every = [run.metrics for run in self.parts]
        tasks = _union(metrics["tasks"] for metrics in every)
        return {
            "tasks": tasks,
            "suites": _union(metrics.get("suites", {}) for metrics in every),
            "errors": sum(result["errors"] for result in tasks.values()),
            "requests": sum(metrics.get("requests", 0) for metrics in every),
            "tokens": {
                kind: sum(metrics["tokens"][kind] for metrics in every if "tokens" in metrics)
                for kind in every[0].get("tokens", {})
            },
        }

    def instances(self) -> "pd.DataFrame":
        import pandas as pd

        tables, seen = [], set[str]()
        for run in self.parts:
            table = run.instances()
            tables.append(table[~table["task"].isin(list(seen))])
            seen |= set(run.metrics["tasks"])
        return pd.concat(tables, ignore_index=True)


def joined(runs: Iterable[Run]) -> list[Run]:
    """``runs``, with those that are one checkpoint's numbered folders as one run each.

    `olmeval run` makes such a folder beside the first where it is asked other tasks. Folders that
    answer one task's name differently stay apart, as do unfinished ones.
    """
    groups: dict[tuple[Any, ...], list[list[Run]]] = {}
    order: list[list[Run]] = []
    for run in runs:
        model = run.info["model"]
        key = (run.path.resolve().parent, run.name, model["name"], model.get("fingerprint"))
        alike = groups.setdefault(key, [])
        home = next((group for group in alike if _joins(run, group)), None)
        if home is None:
            alike.append([run])
            order.append(alike[-1])
        else:
            home.append(run)
    return [group[0] if len(group) == 1 else JoinedRun(group) for group in order]


def _joins(run: Run, group: Sequence[Run]) -> bool:
    """Whether ``run`` asks of the same checkpoint what ``group`` does not, or asks the same."""
    both = [*group, run]
    if not any("beside" in each.info for each in both):
        return False
    if not all((each.path / "metrics.json").exists() for each in both):
        return False
    mine = run.metrics["tasks"]
    theirs = _union(each.metrics["tasks"] for each in group)
    return all(mine[task]["hash"] == theirs[task]["hash"] for task in mine if task in theirs)


def _union(tables: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """All keys; the first table that has one gives its value."""
    found: dict[str, Any] = {}
    for table in tables:
        found |= {key: value for key, value in table.items() if key not in found}
    return found


def find_runs(paths: Iterable[str | Path]) -> list[Run]:
    """Every run folder at or below ``paths``, in order of path and step."""
    runs: list[Run] = []
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f"'{path}' does not exist; give a run folder or a folder of them")
        found = [Run(file.parent) for file in path.rglob("run.json")]
        # The folder of a training has a run.json, too, which names no model that was scored.
        found = [run for run in found if "metadata" in run.info.get("model", {})]
        if not found:
            raise UserError(f"'{path}' holds no run: no run.json is in it or below it")
        runs += sorted(found, key=_order)
    return runs


def _order(run: Run) -> tuple[str, int, str]:
    metadata = run.info["model"]["metadata"]
    return (str(metadata.get("run", "")), int(metadata.get("step") or 0), str(run.path))


def long_table(runs: Iterable[Run]) -> "pd.DataFrame":
    """The long table of several runs, those in numbered folders :func:`joined`."""
    import pandas as pd

    rows = [row for run in joined(runs) for row in run.rows()]
    return pd.DataFrame(rows, columns=list(LONG_COLUMNS))


def records(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """The rows of a table as JSON-ready dictionaries; missing values are None."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]
