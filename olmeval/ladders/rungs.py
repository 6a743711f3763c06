"""Planning and training the rungs of a ladder: sizes times lengths of one recipe.

A rung is an ordinary run; the swarm runner trains them all and resumes. What comes out is a long
table of losses, which ``ladder fit`` and ``ladder predict`` read like anybody's.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from olmeval.errors import UserError
from olmeval.executors.base import Executor
from olmeval.files import atomic_path
from olmeval.ladders.curves import make_ladder
from olmeval.ladders.forecast import LadderForecast
from olmeval.ladders.laws import exact_flops, six_nd
from olmeval.ladders.predict import Measured, Scale, fit_forecast, predict
from olmeval.ladders.spec import LadderFile, Target, Training
from olmeval.results.run import LONG_COLUMNS
from olmeval.results.table import load_table

if TYPE_CHECKING:
    import pandas as pd

    from olmeval.trainer.recipe import Recipe

TABLE = "ladder.parquet"
TASK, METRIC = "train", "nats_per_token"
BLOCKS = 20
"""Rows of one run: its logged losses averaged over so many equal parts."""


@dataclass(frozen=True)
class Rung:
    """One planned run; ``hours`` at the given speed, ``within`` the budget."""

    name: str
    size: str
    multiple: float
    params: int
    tokens: int
    flops: float
    hours: float | None
    held_out: bool
    within: bool


def _training(file: LadderFile) -> Training:
    if file.training is None:
        raise UserError(f"the ladder '{file.name}' has no 'training'; say there what to train")
    return file.training


def rung_name(size: str, multiple: float) -> str:
    """``190M-5xC``: the size, and how many times 20 tokens a parameter."""
    return f"{size}-{multiple:g}xC"


def _cells(training: Training, target: bool) -> list[tuple[str, float]]:
    cells = [(size, multiple) for size in training.sizes for multiple in training.multiples]
    return cells + ([training.target] if target and training.target else [])


def plan(
    file: LadderFile, flops_per_second: float | None = None, budget: float | None = None
) -> list[Rung]:
    """The rungs, cheapest first: sizes, tokens, FLOPs, and hours at ``flops_per_second``.

    ``budget`` [FLOPs] is spent on the cheapest first; the held-out target comes last and is not
    counted in it. Raises :class:`UserError` for a size without weights or FLOPs.
    """
    training = _training(file)
    rows = []
    for name, multiple in _cells(training, True):
        params, per_token = _counts(file, name)
        tokens = round(20 * multiple * params)
        flops = six_nd(params, tokens) if file.flops == "6nd" else exact_flops(per_token, tokens)
        hours = None if flops_per_second is None else flops / flops_per_second / 3600
        held_out = (name, multiple) == training.target
        rows.append((held_out, flops, name, multiple, params, tokens, hours))
    spent, planned = 0.0, []
    for held_out, flops, name, multiple, params, tokens, hours in sorted(rows, key=lambda r: r[:2]):
        spent += 0.0 if held_out else flops
        within = held_out or budget is None or spent <= budget
        planned.append(
            Rung(rung_name(name, multiple), name, multiple, params, tokens, flops, hours,
                 held_out, within)
        )  # fmt: skip
    return planned


def _counts(file: LadderFile, name: str) -> tuple[int, float]:
    """Weights and FLOPs of a token of a size: what the file says, else those of its preset."""
    from olmeval.trainer.presets import preset
    from olmeval.trainer.recipe import load_recipe

    size = file.sizes[name]
    params, per_token = size.params, size.flops_per_token
    if (params is None or per_token is None) and size.preset is not None:
        config = preset(size.preset)
        training = _training(file)
        recipe = load_recipe(training.recipe, training.overrides)
        params = params or config.params
        per_token = per_token or config.flops_per_token(recipe.train.seq_len)
    if params is None or (per_token is None and file.flops == "exact"):
        raise UserError(
            f"the size '{name}' has neither a preset nor 'params' and 'flops_per_token'; give them"
        )
    return params, float(per_token or 6 * params)


def rung_recipes(file: LadderFile, root: Path | None, target: bool = True) -> "list[Recipe]":
    """The recipe of every rung (and the target's, last), on the corpus ``root``."""
    from olmeval.trainer.recipe import load_recipe

    training = _training(file)
    made = []
    for name, multiple in _cells(training, target):
        size = file.sizes[name]
        if size.preset is None and not size.model:
            raise UserError(f"the size '{name}' says neither 'preset' nor 'model'; give one")
        overrides: dict[str, Any] = dict(training.overrides)
        if root is not None:
            overrides["data.root"] = str(root)
        # A ladder's recipe may name a preset of its own.
        overrides["model"] = dict(size.model) | ({"preset": size.preset} if size.preset else {})
        overrides |= {"name": rung_name(name, multiple), "train.tokens": f"{multiple:g}xC"}
        made.append(load_recipe(training.recipe, overrides))
    return made


def run(
    file: LadderFile, root: Path | None, output: Path, executor: Executor, *,
    target: bool = True, retries: int = 2, progress: bool = True,
) -> Path:  # fmt: skip
    """Trains every rung in ``output/<name>``; writes their scores to ``output/ladder.parquet``.

    Scores are the losses of training and those of the tasks that the recipe's ``evaluation`` asks
    for, which are answered on the way. Called again, it goes on where it stopped. Raises
    :class:`UserError` if a rung failed, after the others are done.
    """
    from olmeval.engine.inloop import watch_with
    from olmeval.trainer.swarm import run_swarm

    training = _training(file)
    recipes = rung_recipes(file, root, target)
    result = run_swarm(
        recipes, output, executor=executor, retries=retries, evaluate=watch_with, progress=progress
    )
    if result.failed:
        first = result.failed[0]
        raise UserError(f"{len(result.failed)} rungs failed, first '{first.run}': {first.error}")
    rows = []
    for proxy, (size, _) in zip(result.proxies, _cells(training, target), strict=True):
        at = {
            "run": proxy.run, "model": size, "family": file.name, "params": proxy.params,
            "seed": proxy.seed, "mix": proxy.mix,
        }  # fmt: skip
        folder, per_token = output / proxy.folder, proxy.flops / proxy.tokens
        found = [*losses(folder), *_task_scores(folder)]
        rows += [at | row | {"flops": row["tokens"] * per_token} for row in found]
    path = output / TABLE
    with atomic_path(path) as tmp:
        _table(rows).to_parquet(tmp, index=False)
    return path


def losses(folder: Path) -> list[dict[str, Any]]:
    """Step, tokens and mean loss [nats a token] of equal parts of a run's log."""
    from olmeval.trainer.checkpoint import METRICS

    lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()
    logged = [row for row in map(json.loads, lines) if row.get("loss") is not None]
    if not logged:
        raise UserError(f"'{folder / METRICS}' has no loss; was every step skipped?")
    parts = np.array_split(np.arange(len(logged)), min(BLOCKS, len(logged)))
    found = []
    for part in parts:
        last = logged[part[-1]]
        values = np.array([logged[i]["loss"] for i in part])
        error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
        found.append(
            {"task": TASK, "metric": METRIC, "higher_is_better": False, "primary": True,
             "step": last["step"], "tokens": last["tokens"], "value": float(values.mean()),
             "stderr": error, "n": len(values)}
        )  # fmt: skip
    return found


def _task_scores(folder: Path) -> list[dict[str, Any]]:
    """Rows of the tasks that were scored on the way; none where the recipe asks for none."""
    from olmeval.engine.inloop import EVAL

    path = folder / EVAL
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    wrong = [row for row in rows if row["errors"]]
    if wrong:
        raise UserError(
            f"'{path}': {wrong[0]['errors']} questions of '{wrong[0]['task']}' have no answer at "
            f"step {wrong[0]['step']}; their score says nothing"
        )
    return [{key: value for key, value in row.items() if key != "errors"} for row in rows]


def _table(rows: Iterable[dict[str, Any]]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(list(rows)).reindex(columns=list(LONG_COLUMNS))


def predict_target(file: LadderFile, table: Path) -> tuple[Scale, list[Measured], LadderForecast]:
    """The held-out target of a trained ladder from its rungs, beside what was measured.

    Raises :class:`UserError` for a ladder without tasks or a target that has not been trained.
    """
    training = _training(file)
    if training.target is None:
        raise UserError(f"the ladder '{file.name}' holds no target out; name one in 'training'")
    name = rung_name(*training.target)
    scores = load_table([table])
    of_target = scores[scores["run"] == name]
    if of_target.empty:
        raise UserError(f"'{table}' has no run '{name}'; train the target, too")
    last = of_target.sort_values("tokens").iloc[-1]
    params, tokens, flops = (float(last[field]) for field in ("params", "tokens", "flops"))
    target = Target(
        params=int(params), tokens=int(tokens), flops_per_token=round(flops / tokens), run=name
    )
    ladder = make_ladder(file.model_copy(update={"targets": {name: target}}), scores)
    made = fit_forecast(ladder)
    scale = Scale(params, tokens, flops, name)
    return scale, predict(ladder, made, scale), made
