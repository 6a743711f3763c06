"""Swarms: many small runs over warm workers, each bit for bit the run that it would be alone.

A proxy is an ordinary run in a folder of its own, so that everything that holds for a run holds for
it: it continues from its last checkpoint, refuses another recipe, is evaluated by its folder. The
swarm adds the queue. Workers stay warm from proxy to proxy, and prefer proxies of the shape that
they did last, whose model they have built already; one that dies costs the steps since its last
checkpoint.

Proxies that differ by mixture alone share their random numbers: the same initial weights, and of
every domain the same instances in the same order (:mod:`olmeval.trainer.mixture`). What differs
between them is then due to the mixture; how much of it is chance is what other seeds tell.
"""

import json
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from olmeval.config import Config, load_config
from olmeval.errors import UserError
from olmeval.executors.base import Executor
from olmeval.files import locked, make_dir, write_json
from olmeval.trainer.checkpoint import METRICS, RUN, complete_checkpoints, open_run
from olmeval.trainer.loop import Live, train
from olmeval.trainer.recipe import EvaluationSpec, Plan, Recipe, load_recipe, resolve, trusting
from olmeval.trainer.runtime import Runtime, runtime
from olmeval.trainer.swarm_progress import SwarmBar

TABLE = "swarm.json"

Watch = Callable[[Live], Callable[[int], None]]
Evaluate = Callable[[EvaluationSpec], Watch]


@dataclass(frozen=True)
class Proxy:
    """One run of a swarm, and what became of it: a row of ``swarm.json``.

    ``weights`` are the realised shares of the domains, ``loss`` the last logged cross-entropy in
    nats a token (None if its steps were all skipped, or the proxy failed), ``seconds`` those spent
    on training steps, over all attempts that count. ``folder`` is relative to the swarm's.
    """

    run: str
    mix: str
    weights: dict[str, float]
    seed: int
    data_seed: int
    params: int
    steps: int
    tokens: int
    flops: int
    folder: str
    status: Literal["waiting", "done", "failed"] = "waiting"
    loss: float | None = None
    seconds: float | None = None
    attempts: int = 0
    """Of this call; 0: finished before it, or not begun."""
    error: str | None = None


@dataclass(frozen=True)
class SwarmResult:
    """A swarm at its end: one row a proxy, in the order of the recipes."""

    output: Path
    proxies: tuple[Proxy, ...]
    seconds: float

    @property
    def failed(self) -> tuple[Proxy, ...]:
        """The proxies that have no result."""
        return tuple(proxy for proxy in self.proxies if proxy.status == "failed")


@dataclass(frozen=True)
class Job:
    """What a worker is sent. ``shape``: proxies of one shape share a built model."""

    recipe: Recipe
    folder: Path
    shape: Hashable
    evaluate: Evaluate | None
    batch_tokens: int


class SwarmFile(Config):
    """A swarm in a file: every mixture with every seed, on one recipe."""

    recipe: str
    """A recipe file, or the name of a shipped recipe."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """Dotted keys of the recipe and their values."""
    mixtures: dict[str, dict[str, float]] = Field(min_length=1)
    """``{name: {domain: weight}}``."""
    seeds: tuple[int, ...] = Field((0,), min_length=1)


def load_swarm(path: Path, overrides: Mapping[str, Any] | None = None) -> list[Recipe]:
    """The recipes of the swarm in a YAML file. Raises :class:`UserError`.

    ``overrides`` maps dotted keys of the recipe to values, which win over the file's.
    """
    file = load_config(path, SwarmFile)
    base = load_recipe(file.recipe, {**file.overrides, **(overrides or {})})
    return proxies(base, file.mixtures, file.seeds)


def proxies(
    base: Recipe, mixtures: Mapping[str, Mapping[str, float]], seeds: Sequence[int] = (0,)
) -> list[Recipe]:
    """``base`` with every mixture ``{name: {domain: weight}}`` and every seed.

    Proxies of one seed share initial weights and order of data; another seed changes both, so that
    the spread over seeds is that of a repeated experiment. Raises :class:`UserError`.
    """
    made = []
    for seed in seeds:
        for name, weights in mixtures.items():
            data = {"mixture": dict(weights), "mix_name": name, "seed": seed}
            changed = {"name": f"{name}-seed{seed}", "seed": seed}
            fields = base.model_dump()
            try:
                made.append(Recipe(**{**fields, **changed, "data": {**fields["data"], **data}}))
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, first["loc"]))
                raise UserError(f"mixture '{name}', seed {seed}: {where}: {first['msg']}") from None
    return made


def run_swarm(
    recipes: Sequence[Recipe],
    output: Path,
    *,
    executor: Executor,
    retries: int = 2,
    evaluate: Evaluate | None = None,
    progress: bool = True,
) -> SwarmResult:
    """Trains every recipe in ``output/<its name>`` on the executor's workers.

    A proxy whose worker dies or whose training raises is started again up to ``retries`` times,
    from its last checkpoint; then it is reported as failed, and the others go on. Called again, a
    swarm leaves finished proxies alone and continues the others. ``output/swarm.json`` holds the
    rows of all proxies and is renewed whenever one ends. ``evaluate``, an importable function,
    makes the watcher for recipes that have tasks scored on the way:
    ``olmeval.engine.inloop.watch_with``.

    Raises :class:`UserError` before anything is trained if a recipe, its data or its folder is at
    fault, naming the recipe.
    """
    started = time.perf_counter()
    make_dir(output)
    with locked(output / ".lock", f"another process runs the swarm in '{output}'; wait for it"):
        rows, jobs, places = _prepare(recipes, output, evaluate)
        _write(output, rows)
        with SwarmBar(progress, rows) as bar:
            for done in executor.map(
                train_proxy,
                jobs,
                retries=retries,
                affinity=_shape_of,
                on_report=lambda index, tokens: bar.advance(places[index], tokens),
            ):
                place = places[done.index]
                row = asdict(rows[place]) | {"attempts": done.attempts}
                if done.error is None:
                    assert done.result is not None
                    row |= {"status": "done", **done.result}
                else:
                    row |= {"status": "failed", "error": done.error}
                rows[place] = Proxy(**row)
                _write(output, rows)
                bar.end(place, rows[place])
    return SwarmResult(output, tuple(rows), time.perf_counter() - started)


def _prepare(
    recipes: Sequence[Recipe], output: Path, evaluate: Evaluate | None
) -> tuple[list[Proxy], list[Job], list[int]]:
    """Rows of all proxies; jobs of those that are not finished, and the places of their rows."""
    rows: list[Proxy] = []
    jobs: list[Job] = []
    places: list[int] = []
    for recipe, plan in zip(recipes, plan_swarm(recipes), strict=True):
        if recipe.evaluation and not evaluate:
            raise UserError(f"'{recipe.name}' asks for evaluation, which this swarm does not do")
        folder = output / recipe.name
        try:
            finished = _is_finished(folder, plan)
        except UserError as error:
            raise UserError(f"proxy '{recipe.name}': {error}") from None
        row = _row(plan)
        if finished:
            row = Proxy(**asdict(row) | {"status": "done", **outcome(folder)})
        else:
            places.append(len(rows))
            jobs.append(make_job(trusting(recipe), plan, folder, evaluate))
        rows.append(row)
    return rows, jobs, places


def plan_swarm(recipes: Sequence[Recipe]) -> list[Plan]:
    """The plan of every proxy. Raises :class:`UserError` that names the one at fault."""
    plans: list[Plan] = []
    verified: set[Path] = set()
    names: set[str] = set()
    for recipe in recipes:
        if recipe.name in names:
            raise UserError(f"two proxies are called '{recipe.name}'; give each a name of its own")
        names.add(recipe.name)
        # Every byte of the data is read once, and not once for every proxy.
        once = trusting(recipe) if recipe.data.root in verified else recipe
        try:
            plans.append(resolve(once))
        except UserError as error:
            raise UserError(f"proxy '{recipe.name}': {error}") from None
        verified.add(recipe.data.root)
    return plans


def _is_finished(folder: Path, plan: Plan) -> bool:
    """Whether ``folder`` holds the last checkpoint of this very run, and all that comes after."""
    if not (folder / RUN).exists():
        return False
    with open_run(folder, plan):
        averaged = not plan.recipe.checkpoint.average or (folder / "average").exists()
        return averaged and folder / f"step{plan.steps}" in complete_checkpoints(folder)


def _row(plan: Plan) -> Proxy:
    recipe = plan.recipe
    return Proxy(
        run=recipe.name,
        mix=plan.mix_name,
        weights=plan.mixture.weights(),
        seed=recipe.seed,
        data_seed=recipe.data.seed,
        params=plan.model.params,
        steps=plan.steps,
        tokens=plan.tokens,
        flops=plan.flops(plan.tokens),
        folder=recipe.name,
    )


def make_job(recipe: Recipe, plan: Plan, folder: Path, evaluate: Evaluate | None) -> Job:
    """What a worker is sent to train ``recipe``, of which ``plan`` was made, in ``folder``."""
    return Job(recipe, folder, shape(plan), evaluate, plan.batch_tokens)


def shape(plan: Plan) -> Hashable:
    """All that a built and compiled model depends on."""
    train = {"tokens": 1, "batch_size": plan.mixture.batch_size}
    return plan.model, plan.recipe.train.model_copy(update=train)


def _shape_of(job: Job) -> Hashable:
    return job.shape


# The model that this process built last, and its shape: the next proxy mostly has the same one.
_warm: tuple[Hashable, Runtime] | None = None


def _built(job: Job) -> Runtime:
    """A model of the job's shape; the one built before it is given up."""
    global _warm
    if _warm is None or _warm[0] != job.shape:
        _warm = None
        _warm = job.shape, runtime(job.recipe)
    return _warm[1]


def train_proxy(job: Job, report: Callable[[int], None]) -> dict[str, float | None]:
    """Trains one proxy, or the rest of it, in this process; returns its :func:`outcome`.

    ``report`` is told how many more tokens are trained.
    """
    # A worker may outlive its killed driver by a second: wait for it rather than fail.
    with locked(job.folder / ".lock"):
        pass
    spec, reported = job.recipe.evaluation, 0

    def on_line(step: int) -> None:
        nonlocal reported
        tokens = step * job.batch_tokens
        report(tokens - reported)
        reported = tokens

    watch = job.evaluate(spec) if job.evaluate and spec else None
    result = train(
        job.recipe, job.folder, runtime=_built(job), on_line=on_line, watch=watch, progress=False
    )
    if result.stopped:
        # A signal ended it, with a checkpoint. No failure: whoever sent it means the process.
        raise KeyboardInterrupt
    return outcome(job.folder)


def outcome(folder: Path) -> dict[str, float | None]:
    """Last loss of a finished run, and the seconds that its training steps took."""
    lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    seconds, before = 0.0, 0
    for row in rows:
        seconds += (row["tokens"] - before) / row["tokens_per_second"]
        before = row["tokens"]
    return {"loss": rows[-1]["loss"], "seconds": seconds}


def _write(output: Path, rows: Sequence[Proxy]) -> None:
    write_json(output / TABLE, {"proxies": [asdict(row) for row in rows]})
