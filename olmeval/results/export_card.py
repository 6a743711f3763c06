"""Model cards of the Hugging Face hub: the scores of a run as ``model-index`` metadata.

The fields are those of ``huggingface_hub.EvalResult``, written and checked by that library, so that
a hub shows them. A score goes there with its standard error as a metric of its own.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olmeval.files import make_dir, write_text
from olmeval.results.export import targets_of
from olmeval.results.export_scores import markdown_lines, markdown_text
from olmeval.results.run import Run

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

TASK_TYPE = "text-generation"
CARD = "README.md"


def export_cards(
    runs: Sequence[Run], output: Path, advance: Callable[[Run], None] = lambda _: None
) -> list[Path]:
    """Writes ``output/<name of its folder>/README.md`` for every run; returns the files.

    Raises :class:`UserError` for an unfinished run, two runs of one name, and a target that is
    itself a run folder.
    """
    written = []
    for target, run in targets_of(runs, output).items():
        text = card(run)
        make_dir(target)
        write_text(target / CARD, text)
        written.append(target / CARD)
        advance(run)
    return written


def card(run: Run) -> str:
    """A model card: metadata of all scores, and a table of the primary ones."""
    from huggingface_hub import ModelCardData

    name = str(run.info["model"]["name"])
    data = ModelCardData(
        model_name=name,
        eval_results=list(eval_results(run)),
        pipeline_tag=TASK_TYPE,
        tags=["olmeval"],
        datasets=sorted(_hub_datasets(run)) or None,
    )
    table = run.table()
    version = run.info.get("versions", {}).get("olmeval", "")
    lines = [
        "---", data.to_yaml(), "---", "", f"# {markdown_text(name)}", "", "## Evaluation", "",
        *markdown_lines(table[table["primary"]]), "", f"Made by olmeval {version}.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def eval_results(run: Run) -> Iterator["EvalResult"]:
    """One result a task and metric, and one for each standard error."""
    from huggingface_hub import EvalResult

    for task, result in run.metrics["tasks"].items():
        about = run.info.get("tasks", {}).get(task, {})
        source = (about.get("data") or [{}])[0]
        family = task.partition(":")[0]
        shots = {"num_few_shot": about["num_shots"]} if "num_shots" in about else None
        for metric, score in result["metrics"].items():
            # Tasks on one data set become one entry of the hub, so each metric names its task.
            shown = f"{task} {metric}{' (primary)' * (metric == result['primary_metric'])}"
            found: list[tuple[str, Any, str]] = [(metric, score["value"], shown)]
            if score["stderr"] is not None:
                found.append((f"{metric}_stderr", score["stderr"], f"{task} {metric} stderr"))
            for kind, value, title in found:
                yield EvalResult(
                    task_type=TASK_TYPE,
                    dataset_type=str(source.get("name") or family),
                    dataset_name=family,
                    dataset_config=source.get("config"),
                    dataset_split=about.get("split"),
                    dataset_revision=_pinned(source.get("revision")),
                    metric_type=kind,
                    metric_value=value,
                    metric_name=title,
                    metric_args=shots,
                )


def _hub_datasets(run: Run) -> set[str]:
    """Data sets that lie on the hub, and not in a local folder."""
    return {
        str(source["name"])
        for about in run.info.get("tasks", {}).values()
        for source in about.get("data") or ()
        if source.get("kind") == "hub" and re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(source["name"]))
    }


def _pinned(revision: str | None) -> str | None:
    return None if revision == "unpinned" else revision
