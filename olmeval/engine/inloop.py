"""Scores tasks on a model while it trains, without a checkpoint.

The questions are tokenized and planned once; every so many steps the live model answers them
through the native backend. Rows go to ``eval.jsonl`` in the run's folder, under the names that
``olmeval run`` gives tasks and metrics. The run is not changed: its weights are, bit for bit, those
of a run that nobody watched, and a run that was killed ends with the same rows.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from olmeval.backends.base import LoadOptions, ModelInfo, row_tokens
from olmeval.backends.describe import STANDARD_MAX_LENGTH
from olmeval.backends.tokenization import Tokenizer
from olmeval.engine.collect import Scores, collect
from olmeval.engine.prepare import Prepared
from olmeval.engine.score import instance_table, score_task
from olmeval.engine.work import Work, load_work
from olmeval.errors import UserError
from olmeval.results.answers import Answers
from olmeval.results.suites import answered, score_suites
from olmeval.trainer.checkpoint import truncate_lines

if TYPE_CHECKING:
    from olmeval.backends.native import NativeBackend
    from olmeval.trainer.loop import Live
    from olmeval.trainer.model import Olmo2
    from olmeval.trainer.recipe import EvaluationSpec

EVAL = "eval.jsonl"


def watch_with(spec: "EvaluationSpec") -> Callable[["Live"], Callable[[int], None]]:
    """What :func:`olmeval.trainer.loop.train` calls with a live run to have ``spec`` scored.

    Raises :class:`UserError` there for tasks that do not exist or that generate.
    """
    return lambda live: InLoop(spec, live)


class InLoop:
    """One run's evaluation; called with the number of every finished step."""

    def __init__(self, spec: "EvaluationSpec", live: "Live"):
        self.spec, self.live = spec, live
        self.path = live.output / EVAL
        truncate_lines(self.path, live.step)
        started = time.perf_counter()
        self.work = load_work(spec.tasks, spec.limit, spec.task_paths)
        for task in self.work.tasks:
            if task.kind == "generate":
                raise UserError(
                    f"evaluation.tasks: '{task.task.name}' generates, which takes too long between "
                    "steps; take its bpb format, or score checkpoints with olmeval run"
                )
        with _still(live.model):
            self.backend = _backend(live)
        self.prepared = self.work.prepare(
            self.backend.tokenizer, self.backend.info.max_length, self.backend.max_row_tokens
        )
        self.seconds = 0.0
        self.started = time.perf_counter()
        live.say(
            f"every {spec.every} steps: {len(self.work.requests):,} questions of "
            f"{len(self.work.tasks)} tasks, {self.prepared.plan.tokens_planned:,} tokens "
            f"(made ready in {self.started - started:.1f} s)"
        )

    def __call__(self, step: int) -> None:
        """Scores the model if it is time to."""
        if step % self.spec.every and step != self.live.plan.steps:
            return
        began = time.perf_counter()
        scores = self._ask()
        rows = list(_rows(self.work, self.prepared, scores))
        tokens = step * self.live.plan.batch_tokens
        _append(self.path, ({"step": step, "tokens": tokens, **row} for row in rows))
        ended = time.perf_counter()
        self.seconds += ended - began
        share = self.seconds / (ended - self.started - self.seconds)
        within = {member for suite in self.work.suites.values() for member in suite["members"]}
        asked = [r for r in rows if r["primary"] and r["task"] not in within]
        shown = ", ".join(f"{r['task']} {r['value']:.4g}" for r in asked)
        errors = int(scores.failed.sum())
        wrong = f"; {errors} questions could not be answered" if errors else ""
        self.live.say(
            f"step {step}: {shown}{wrong} ({ended - began:.1f} s; evaluation so far is "
            f"{share:.1%} of training)"
        )

    def _ask(self) -> Scores:
        """The live model's answers."""
        plan = self.prepared.plan
        with _still(self.live.model):
            parts = list(self.backend.score(plan, plan.steps))
        answers = Answers.scored(
            self.prepared.keys,
            plan.slots,
            np.concatenate([part.logprobs for part in parts]),
            np.concatenate([part.greedy for part in parts]),
        )
        return collect(len(self.work.requests), self.prepared, answers)


@contextmanager
def _still(model: "Olmo2") -> Iterator[None]:
    """The model as it is scored: nothing is dropped, and its compiled parts, if any, run as they
    were written, since rows of a tree hardly ever have the same shape twice."""
    import torch

    training = model.training
    model.eval()
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        model.train(training)


def _backend(live: "Live") -> "NativeBackend":
    import torch

    from olmeval.backends.native import NativeBackend, NativeModel

    plan = live.plan
    data, window = plan.recipe.data, plan.model.max_position_embeddings
    tokenizer = Tokenizer.load(data.root / plan.manifest.tokenizer.path)
    # Products as in training: float32 is slow on a GPU.
    model = NativeModel(live.model, getattr(torch, plan.recipe.train.precision))
    info = ModelInfo(
        name=plan.recipe.name,
        path=str(live.output),
        fingerprint="live",
        params=plan.model.params,
        params_total=plan.model.params_total,
        max_length=min(window, STANDARD_MAX_LENGTH),
    )
    options = LoadOptions(device=str(model.device))
    return NativeBackend(model, tokenizer, info, row_tokens(options))


def _rows(work: Work, prepared: Prepared, scores: Scores) -> Iterable[dict[str, Any]]:
    """One row per (task, metric), complete suites first, as the long table has them."""
    scored = [score_task(w, scores, prepared) for w in work.tasks]
    results = {w.task.name: s.summary for w, s in zip(work.tasks, scored, strict=True)}
    if work.suites:
        questions = answered(instance_table(work.tasks, scored), results)
        for name, score in score_suites(work.suites, results, questions).items():
            if score["status"] == "complete":
                yield _row(name, "primary_score", score, primary=True, errors=0)
    for task, result in results.items():
        for name, score in result["metrics"].items():
            primary = name == result["primary_metric"]
            yield _row(task, name, score, primary=primary, errors=result["errors"])


def _row(
    task: str, metric: str, score: dict[str, Any], *, primary: bool, errors: int
) -> dict[str, Any]:
    values = {name: score[name] for name in ("value", "stderr", "n", "higher_is_better")}
    return {"task": task, "metric": metric, **values, "primary": primary, "errors": errors}


def _append(path: Any, rows: Iterable[dict[str, Any]]) -> None:
    """Adds lines, durably: no checkpoint may outlive the rows before it."""
    text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    try:
        with path.open("ab") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"cannot write '{path}': {error.strerror}") from error
