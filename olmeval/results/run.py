"""A run folder as an object, and the long table over many of them."""

from collections.abc import Iterable
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
            "run": trained.get("run", self.path.name),
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
    """The long table of several runs."""
    import pandas as pd

    return pd.DataFrame([row for run in runs for row in run.rows()], columns=list(LONG_COLUMNS))


def records(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """The rows of a table as JSON-ready dictionaries; missing values are None."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]
