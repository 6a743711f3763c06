"""The main job on a small scale: three mixtures, trained, evaluated, compared, on one page.

Two workers of one thread each train three tiny models on different mixtures of the demo corpus and
evaluate every checkpoint. Everything is resumable: the same command goes on where it stopped.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from olmeval.errors import UserError
from olmeval.files import write_text
from olmeval.results.run import Run, find_runs, long_table

if TYPE_CHECKING:
    import pandas as pd

# One mixture for text about the world, one for programs, one that half consists of noise.
MIXTURES: dict[str, dict[str, float]] = {
    "skills": {"arithmetic": 0.3, "patterns": 0.3, "facts": 0.25, "prose": 0.15},
    "code": {"code": 0.75, "prose": 0.25},
    "half-noise": {
        "noise": 0.5, "arithmetic": 0.15, "patterns": 0.1, "facts": 0.1, "code": 0.1, "prose": 0.05,
    },
}  # fmt: skip
RECIPE: dict[str, Any] = {
    "train.seq_len": 512,
    "train.batch_size": 8,
    "model.max_position_embeddings": 2048,
    "data.verify": "size",
}
REAL_TASKS = (
    "basic_skills:bpb",
    "basic_skills_arithmetic:rc",
    "basic_skills_pattern:rc",
    "arc_easy:bpb:0shot",
    "arc_easy:rc:0shot",
    "codex_humaneval:bpb:0shot",
    "minerva_math_algebra:bpb:0shot",
)
LIMIT = 120
TOKENS = 1_000_000
TOKENS_A_STEP = 512 * 8
CHECKPOINTS = 4
SUMS = """\
families:
  demo_sums:
    summary: Sums of two numbers, made for the demo.
    split: test
    splits: {test: [{file: demo_sums.jsonl}]}
    default: rc
    formats:
      rc: {prompt: "{question}", primary: acc_raw, num_shots: 0}
"""


@dataclass(frozen=True)
class Demo:
    """What the demo made: ``comparison`` holds the final checkpoints, pair by pair."""

    page: Path
    runs: tuple[Run, ...]
    table: "pd.DataFrame"
    comparison: "pd.DataFrame"
    real_tasks: bool
    seconds: float


def run_demo(
    output: Path,
    *,
    tokens: int = TOKENS,
    workers: int = 2,
    say: Callable[[str], None] = print,
    progress: bool = True,
) -> Demo:
    """Runs or resumes the demo in ``output``.

    Each model sees about ``tokens`` tokens (whole steps between its four checkpoints); ``workers``
    processes of one thread share the work; ``say`` gets a line at each stage.
    """
    every = round(tokens / TOKENS_A_STEP / CHECKPOINTS)
    if every < 1:
        raise UserError(f"{tokens} tokens are too few for {CHECKPOINTS} checkpoints; take more")
    started = time.monotonic()
    # Before torch is imported here or in a worker: idle threads must not spin on two cores.
    os.environ.update({"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive",
                       "TOKENIZERS_PARALLELISM": "false"})  # fmt: skip
    from olmeval.analysis.compare import compare_runs
    from olmeval.reports.page import write_page
    from olmeval.trainer.corpus import build_demo_corpus

    tasks = _tasks(say)
    say("corpus: building (or finding) the demo corpus")
    corpus = build_demo_corpus(output / "corpus", progress=progress)
    _write_sums(output / "tasks")
    jobs = [(name, output, corpus, tasks, every) for name in MIXTURES]
    say(f"training {len(jobs)} models of 0.7M parameters and evaluating their checkpoints")
    with _bars(output, every * CHECKPOINTS, progress) as draw:
        _in_workers(jobs, workers, draw)

    runs = find_runs([output / "runs"])
    table = long_table(runs)
    final = [run for run in runs if run.info["model"]["metadata"]["step"] == table["step"].max()]
    comparison = compare_runs(final)
    page = write_page(
        table,
        output / "report.html",
        title="Three mixtures, one demo",
        summary=_summary(tasks, final),
        comparison=comparison,
        counters=_counters(runs),
        provenance=_provenance(final),
    )
    return Demo(page, tuple(runs), table, comparison, len(tasks) > 1, time.monotonic() - started)


def _tasks(say: Callable[[str], None]) -> tuple[str, ...]:
    """Real tasks where the benchmark data can be had; the generated one always."""
    from olmeval.tasks.pull import pull_olmes

    say("data: pulling the benchmark questions (77 MB, kept in the cache)")
    try:
        pull_olmes(progress=False)
    except UserError as error:
        say(f"the benchmark data cannot be had, so only the generated task is used: {error}")
        return ("demo_sums:rc",)
    return ("demo_sums:rc", *REAL_TASKS)


def _write_sums(folder: Path) -> None:
    """A private task in a catalogue file of its own, with questions no corpus line repeats."""
    rng = Random(7)
    rows = []
    for k in range(150):
        a, b = rng.randint(11, 89), rng.randint(2, 9)
        wrong = rng.sample([d for d in range(-10, 11) if d], 3)
        choices = [str(a + b), *(str(a + b + d) for d in wrong)]
        rng.shuffle(choices)
        rows.append({"id": str(k), "question": f"{a} + {b} =", "choices": choices,
                     "gold": choices.index(str(a + b))})  # fmt: skip
    write_text(folder / "demo_sums.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write_text(folder / "demo_sums.yaml", SUMS)


Job = tuple[str, Path, Path, tuple[str, ...], int]


def _in_workers(jobs: Sequence[Job], workers: int, draw: Callable[[], None]) -> None:
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn"))
    with pool:
        pending: set[Future[None]] = {pool.submit(train_and_evaluate, *job) for job in jobs}
        while pending:
            done, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            draw()
            for future in done:
                future.result()


def train_and_evaluate(
    mix: str, output: Path, corpus: Path, tasks: Sequence[str], every: int
) -> None:
    """One worker's job: train on ``mix`` with a checkpoint each ``every`` steps, then score all."""
    import torch

    from olmeval.engine.evaluate import evaluate_many
    from olmeval.engine.settings import Settings
    from olmeval.trainer.loop import train
    from olmeval.trainer.recipe import load_recipe

    torch.set_num_threads(1)
    recipe = load_recipe(
        "cpu-0.7m",
        {**RECIPE, "name": mix, "family": "demo", "data.root": str(corpus),
         "train.tokens": every * CHECKPOINTS * TOKENS_A_STEP, "checkpoint.every": every,
         "data.mixture": MIXTURES[mix], "data.mix_name": mix, "train.device": "cpu"},
    )  # fmt: skip
    train(recipe, output / "train" / mix, progress=False)
    evaluate_many(
        [output / "train" / mix], tasks, output=output / "runs", limit=LIMIT,
        settings=Settings(device="cpu"), task_paths=[output / "tasks"], beside=False,
    )  # fmt: skip


@contextmanager
def _bars(output: Path, steps: int, show: bool) -> Iterator[Callable[[], None]]:
    """Progress of every job, read from the files that the workers write."""
    import sys

    if not show or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:12}"), BarColumn(), TextColumn("{task.fields[doing]}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bars:
        ids = {mix: bars.add_task(mix, total=1.0, doing="waiting") for mix in MIXTURES}

        def draw() -> None:
            for mix, bar in ids.items():
                logged = _last_line(output / "train" / mix / "metrics.jsonl")
                step = logged.get("step", 0)
                scored = len(list((output / "runs").glob(f"{mix}-step*/metrics.json")))
                doing = f"loss {logged['loss']:.3f}" if logged else "waiting"
                if step >= steps:
                    doing = f"{scored} of {CHECKPOINTS} checkpoints scored"
                share = 0.6 * step / steps + 0.4 * scored / CHECKPOINTS
                bars.update(bar, completed=share, doing=doing)

        yield draw
        draw()


def _last_line(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        found: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    except json.JSONDecodeError:  # a line that is just being written
        return {}
    return found


def _summary(tasks: Sequence[str], final: Sequence[Run]) -> list[str]:
    tokens = final[0].info["model"]["metadata"]["tokens"]
    text = (
        f"Three models of 0.7M parameters saw {tokens / 1e6:.2f}M tokens of three mixtures; every "
        f"checkpoint answered the same questions (at most {LIMIT} a task). Errors are those of the "
        "questions; one run a mixture cannot show how much another training seed would move them."
    )
    if len(tasks) == 1:
        return [text, "The benchmark data could not be had: only the generated task is shown."]
    return [text]


def _counters(runs: Sequence[Run]) -> dict[str, int]:
    """Sums over all tasks of all runs."""
    total = {"instances": 0, "errors": 0}
    for result in (r for run in runs for r in run.metrics["tasks"].values()):
        total["instances"] += result["instances"]
        total["errors"] += result["errors"]
        for name, count in result["counters"].items():
            total[name] = total.get(name, 0) + count
    return {name.replace("_", " "): count for name, count in total.items()}


def _provenance(final: Sequence[Run]) -> dict[str, dict[str, Any]]:
    first = final[0].info
    mixtures = {
        run.info["model"]["metadata"]["mix"]: run.info["model"]["metadata"]["mixture"]
        for run in final
    }
    return {
        "Versions": first["versions"],
        "Mixtures (realised shares)": mixtures,
        "Weights": {run.path.name: run.info["model"]["fingerprint"][:16] for run in final},
        "Settings": first["model"]["settings"],
    }
