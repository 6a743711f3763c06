"""``evaluate``: checkpoints and task specs in, run folders with scores and errors out."""

import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olmeval import __version__
from olmeval.backends.checkpoints import Checkpoint, find_checkpoints, fingerprint
from olmeval.engine.infer import ignore, infer, questions
from olmeval.engine.score import instance_table, score_task
from olmeval.engine.work import Work, load_work
from olmeval.errors import UserError
from olmeval.files import atomic_path, make_dir, read_json, write_json
from olmeval.results.run import Run
from olmeval.results.store import ResponseStore
from olmeval.results.suites import answered, score_suites

if TYPE_CHECKING:
    from olmeval.backends.base import Backend

VERSIONS = ("torch", "transformers", "tokenizers", "numpy", "pyarrow")


@dataclass(frozen=True)
class Settings:
    """How to run a model; each changes numbers only as its comment says."""

    backend: str = "transformers"
    device: str | None = None  # default: CUDA when there is one
    dtype: str = "auto"  # the checkpoint's own on a GPU, float32 on a CPU
    tokenizer: str | None = None  # another folder or hub id than the model's own
    bos: str = "standard"  # standard: BOS for Gemma only, as in OLMES
    max_length: int | None = None  # default: the model's window, at most 2,048 as in OLMES
    batch_size: int = 0  # sequences a forward pass; 0: as many as fit the token budget
    row_tokens: int | None = None  # token budget of a forward pass
    window_overlap: int = 0  # tokens of context that a document's later windows see again
    max_new_tokens: int | None = None  # lowers every generation's own limit to this


def evaluate(
    model: str | Path,
    tasks: Sequence[str],
    *,
    output: str | Path = "runs",
    limit: int | float | None = None,
    settings: Settings | None = None,
    task_paths: Sequence[str | Path] = (),
    allow_errors: bool = False,
    progress: bool = False,
) -> Run:
    """Scores one checkpoint on ``tasks``; see :func:`evaluate_many`.

    Raises :class:`UserError` when ``model`` names several checkpoints.
    """
    found = find_checkpoints(model)
    if len(found) > 1:
        raise UserError(f"'{model}' holds {len(found)} checkpoints; use evaluate_many, or name one")
    return evaluate_many(
        [model], tasks, output=output, limit=limit, settings=settings, task_paths=task_paths,
        allow_errors=allow_errors, progress=progress,
    )[0]  # fmt: skip


def evaluate_many(
    models: Sequence[str | Path],
    tasks: Sequence[str],
    *,
    output: str | Path = "runs",
    limit: int | float | None = None,
    settings: Settings | None = None,
    task_paths: Sequence[str | Path] = (),
    allow_errors: bool = False,
    progress: bool = False,
) -> list[Run]:
    """Scores every checkpoint that ``models`` name; one run folder each, ``output/<name>``.

    A folder that already holds the same question's answers is not computed again, a half-finished
    one is continued. ``limit`` takes so many documents of each task (int) or that fraction (float).
    Instances that could not be scored are errors: their task reports them, the run's status is
    ``errors`` and, unless ``allow_errors``, a :class:`UserError` is raised at the end.
    """
    settings = settings or Settings()
    checkpoints = _distinct(models)
    work = load_work(tasks, limit, [Path(p) for p in task_paths], settings.max_new_tokens)
    runs = []
    with _progress(progress) as track:
        for checkpoint in checkpoints:
            runs.append(_evaluate_one(checkpoint, work, Path(output), settings, limit, track))
    bad = [run for run in runs if run.info["status"] == "errors"]
    if bad and not allow_errors:
        counts = {t: r["errors"] for t, r in bad[0].metrics["tasks"].items() if r["errors"]}
        listed = ", ".join(f"{n} in {t}" for t, n in counts.items())
        raise UserError(
            f"{len(bad)} of {len(runs)} runs have instances that could not be scored (in "
            f"'{bad[0].path}': {listed}); pass --allow-errors to accept them"
        )
    return runs


def _distinct(models: Sequence[str | Path]) -> list[Checkpoint]:
    if not models:
        raise UserError("no model is named; pass --model DIR_OR_ID")
    by_name: dict[str, Checkpoint] = {}
    for checkpoint in [c for model in models for c in find_checkpoints(model)]:
        other = by_name.setdefault(checkpoint.name, checkpoint)
        if Path(other.source).resolve() != Path(checkpoint.source).resolve():
            raise UserError(
                f"'{other.source}' and '{checkpoint.source}' would both be called "
                f"'{checkpoint.name}'; rename one of the folders"
            )
    return list(by_name.values())


Track = Callable[[str, int], Callable[[int], None]]


def _evaluate_one(
    checkpoint: Checkpoint,
    work: Work,
    output: Path,
    settings: Settings,
    limit: int | float | None,
    track: Track,
) -> Run:
    folder = make_dir(output / checkpoint.name)
    asked = {
        "fingerprint": fingerprint(checkpoint),
        "tasks": {w.task.name: w.task.hash for w in work.tasks},
        "suites": sorted(work.suites),
        "limit": limit,
        "dtype": settings.dtype,
        "tokenizer": settings.tokenizer,
        "bos": settings.bos,
        "max_length": settings.max_length,
        "window_overlap": settings.window_overlap,
        "max_new_tokens": settings.max_new_tokens,
    }
    earlier = read_json(folder / "run.json") if (folder / "run.json").exists() else None
    if earlier is not None and earlier["asked"] != asked:
        raise UserError(
            f"'{folder}' holds a run with {_first_difference(earlier['asked'], asked)}; choose "
            "another --output, or delete it"
        )
    if earlier is not None and earlier["status"] == "complete":
        track(checkpoint.name, 1)(1)
        return Run(folder)

    from olmeval.backends.base import LoadOptions
    from olmeval.backends.registry import load_backend

    backend = load_backend(
        settings.backend,
        checkpoint,
        LoadOptions(
            tokenizer=settings.tokenizer,
            device=settings.device,
            dtype=settings.dtype,
            bos=settings.bos,  # type: ignore[arg-type]
            max_length=settings.max_length,
            row_tokens=settings.row_tokens,
        ),
    )
    info: dict[str, Any] = {
        "status": "running",
        "asked": asked,
        "tasks": {
            w.task.name: {"hash": w.task.hash, "primary_metric": w.task.primary_metric,
                          **w.task.provenance}
            for w in work.tasks
        },
        "model": {
            "name": backend.info.name,
            "path": backend.info.path,
            "fingerprint": backend.info.fingerprint,
            "params": backend.info.params,
            "params_total": backend.info.params_total,
            "max_length": backend.info.max_length,
            "settings": backend.info.settings,
            "metadata": backend.info.metadata,
        },
        "tokenizer": backend.tokenizer.hash,
        "versions": _versions(),
        "started": earlier["started"] if earlier else _now(),
    }  # fmt: skip
    _finish(backend, work, folder, info, settings, track)
    return Run(folder)


def _finish(
    backend: "Backend",
    work: Work,
    folder: Path,
    info: dict[str, Any],
    settings: Settings,
    track: Track,
) -> None:
    """Infers what is missing, scores, and writes the folder; ``run.json`` last."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_json(folder / "run.json", info)
    prepared = work.prepare(
        backend.tokenizer,
        backend.info.max_length,
        backend.max_row_tokens,
        settings.batch_size,
        settings.window_overlap,
    )
    plan = prepared.plan
    advance = track(backend.info.name, questions(prepared))
    with ResponseStore(folder) as store:
        scores, keys = infer(backend, work, prepared, store, advance)
        store.compact()
    scored = [score_task(w, scores, prepared) for w in work.tasks]

    # A document's windows have keys of their own; its first one stands for it.
    of_request: list[bytes | None] = [None] * len(work.requests)
    rows = prepared.request_of_row[prepared.fits].tolist()
    for request, unique in zip(rows[::-1], plan.unique_of.tolist()[::-1], strict=True):
        of_request[request] = keys.sequences[unique]
    for request, key in zip(prepared.request_of_prompt.tolist(), keys.prompts, strict=True):
        of_request[request] = key
    requests = work.request_table(prepared)
    requests = requests.add_column(0, "key", pa.array(of_request, type=pa.binary(16)))
    with atomic_path(folder / "requests.parquet") as tmp:
        pq.write_table(requests, tmp, compression="zstd")
    with atomic_path(folder / "instances.parquet") as tmp:
        instances = instance_table(work.tasks, scored)
        instances.to_parquet(tmp, index=False, compression="zstd")
    by_name = sorted(zip(work.tasks, scored, strict=True), key=lambda pair: pair[0].task.name)
    results = {w.task.name: s.summary for w, s in by_name}
    write_json(
        folder / "metrics.json",
        {
            "tasks": results,
            "suites": score_suites(work.suites, results, answered(instances, results)),
            "errors": sum(s.summary["errors"] for s in scored),
            "requests": len(work.requests),
            "tokens": {
                "naive": plan.tokens_naive,
                "planned": plan.tokens_planned,
                "prefix_tree": plan.tokens_tree,
            },
        },
    )
    info["finished"] = _now()
    info["status"] = "errors" if any(s.summary["errors"] for s in scored) else "complete"
    write_json(folder / "run.json", info)


def _first_difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    if before["fingerprint"] != now["fingerprint"]:
        return "other weights under the same name"
    if before["tasks"] != now["tasks"] or before.get("suites") != now["suites"]:
        return "other tasks, limits or data"
    key = next(k for k in now if before.get(k) != now[k])
    return f"{key} = {before.get(key)} instead of {now[key]}"


def _versions() -> dict[str, str]:
    found = {"olmeval": __version__, "python": platform.python_version()}
    for name in VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _silent(*_: object) -> Callable[[int], None]:
    return ignore


@contextmanager
def _progress(show: bool) -> Iterator[Track]:
    """One bar per checkpoint: requests done, rate, time left."""
    if not show or not sys.stderr.isatty():
        yield _silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("requests"),
        Remaining(), console=Console(stderr=True),
    ) as bars:  # fmt: skip

        def track(name: str, total: int) -> Callable[[int], None]:
            bar = bars.add_task(name, total=total)
            return lambda n: bars.advance(bar, n)

        yield track
