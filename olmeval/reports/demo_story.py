"""The whole story on a small scale: from a corpus to a mixture, a forecast and a decision.

A corpus with documents held out; a swarm of proxies, the law fitted to it, the mixture it asks
for; that mixture and the natural one trained anew with three seeds and five checkpoints each; a
ladder of small models that forecasts a larger one it has not seen; what the checkpoints' own noise
lets one resolve; a gate; one page. Every stage is a public function, resumable, and leaves its
files.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olmeval.errors import UserError
from olmeval.files import make_dir, write_json

if TYPE_CHECKING:
    import pandas as pd

    from olmeval.analysis.gate import GateReport
    from olmeval.engine.settings import Execution
    from olmeval.executors.base import Executor
    from olmeval.ladders.predict import Measured
    from olmeval.mixing.proposal import Proposal
    from olmeval.trainer.recipe import Recipe

DOMAINS = ("arithmetic", "code", "facts", "noise", "prose")
CORPUS_TOKENS = 600_000
"""Of each domain; some prose is to be held out."""
HELD_OUT = ("arithmetic", "code", "facts")
BENCHMARKS = ("codex_humaneval:bpb:0shot", "basic_skills_coding:bpb:0shot")
TOKENS, LIMIT, CHECKPOINTS = 500_000, 64, 5
SEEDS = (101, 102, 103)
STRENGTH = (3.0, 30.0)
"""Nearer to natural than a swarm's default: proxies this small answer a share near 0 steeply."""
RECIPE: dict[str, Any] = {
    "data.verify": "size", "data.repeat": "clip", "family": "demo",
    "model.hidden_size": 32, "model.intermediate_size": 96, "model.num_hidden_layers": 2,
    "train.seq_len": 128, "train.batch_size": 8, "train.device": "cpu", "optimizer.lr": 4.8e-2,
}  # fmt: skip
LADDER = {"sizes": ("d16", "d24", "d32"), "multiples": (0.1, 0.2), "target": ("d48", 0.2)}


@dataclass(frozen=True)
class Comparison:
    """The suite's mean over tasks [bits per byte] by mixture and seed, and what optimizing gained:
    ``gain`` with its 95 % half-width (Welch's t over seeds)."""

    scores: dict[str, tuple[float, ...]]
    gain: float
    halfwidth: float


@dataclass(frozen=True)
class Story:
    """What every stage found. ``seconds`` by stage, of this call."""

    page: Path
    proposal: "Proposal"
    comparison: Comparison
    forecast: "tuple[Measured, ...]"
    snr: "pd.DataFrame"
    gate: "GateReport"
    real_tasks: bool
    seconds: dict[str, float]


def tell_story(
    output: Path,
    *,
    tokens: int = TOKENS,
    runs: int | None = None,
    workers: int = 2,
    say: Callable[[str], None] = print,
    progress: bool = True,
) -> Story:
    """Runs or resumes the whole demo in ``output``.

    ``tokens``: of each proxy and confirmation run; ``runs``: of the swarm, None: as many as are
    advised; ``workers``: processes of one thread; ``say`` gets a line at each stage.
    """
    # Before torch is imported here or in a worker: idle threads must not spin on two cores.
    os.environ.update({"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive",
                       "TOKENIZERS_PARALLELISM": "false"})  # fmt: skip
    from olmeval.engine.settings import Execution
    from olmeval.executors.registry import make_executor
    from olmeval.reports.report import write_report
    from olmeval.trainer.corpus import build_demo_corpus
    from olmeval.trainer.held_out import write_held_out_tasks

    clock = _Clock(say)
    clock.stage("corpus", "five domains, and documents of three held out as tasks")
    corpus = build_demo_corpus(make_dir(output) / "corpus", CORPUS_TOKENS, progress=progress)
    held_out = write_held_out_tasks(corpus, output / "tasks", HELD_OUT)
    real = _benchmarks(say)
    tasks = [*held_out, *(BENCHMARKS if real else ())]
    stage = Stage(output, corpus, tasks, tokens, workers, progress, Execution("local", workers))

    def pool() -> "Executor":
        return make_executor("local", workers)

    clock.stage("swarm", "proxies of as many mixtures as the law asks for")
    proposal, fit_files = _mixture(stage, pool(), runs, clock)
    clock.stage("confirmation", "optimized and natural mixture, three seeds, five checkpoints each")
    mixtures = {"natural": proposal.natural.weights, "optimized": proposal.mixture.weights}
    table, comparison = _confirm(stage, pool(), mixtures)
    clock.stage("ladder", "small models, and a larger one that they have to forecast")
    forecast, ladder_file = _ladder(stage, pool())
    clock.stage("decisions", "noise of the checkpoints, and a gate on the optimized run")
    snr, gate, gate_file = _decide(stage, table)
    clock.stage("report", "one page")
    page = output / "report.html"
    write_report(
        [output / "runs", fit_files, ladder_file, gate_file],
        page,
        title="From a corpus to a mixture",
        baseline="natural",
        summary=[_sentence(comparison)],
    )
    clock.stop()
    return Story(page, proposal, comparison, tuple(forecast), snr, gate, real, clock.seconds)


@dataclass(frozen=True)
class Stage:
    """What all stages need."""

    output: Path
    corpus: Path
    tasks: Sequence[str]
    tokens: int
    workers: int
    progress: bool
    execution: "Execution"

    def recipe(self, **more: Any) -> "Recipe":
        """The proxies' recipe."""
        from olmeval.trainer.recipe import load_recipe

        fixed = {**RECIPE, "data.root": str(self.corpus), "train.tokens": self.tokens}
        return load_recipe("cpu-0.7m", {**fixed, **more})


class _Clock:
    """Says what begins, and keeps how long each stage took."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.seconds = say, dict[str, float]()
        self._name, self._since = "", time.monotonic()

    def stage(self, name: str, about: str) -> None:
        self.stop()
        self._name = name
        self.say(f"{name}: {about}")

    def stop(self) -> None:
        now = time.monotonic()
        if self._name:
            self.seconds[self._name] = now - self._since
        self._since = now


def _benchmarks(say: Callable[[str], None]) -> bool:
    """Whether the benchmark questions can be had."""
    from olmeval.tasks.pull import pull_olmes

    try:
        pull_olmes(progress=False)
    except UserError as error:
        say(f"the benchmark data cannot be had, so only held-out documents are used: {error}")
        return False
    return True


def _mixture(
    stage: Stage, executor: "Executor", runs: int | None, clock: _Clock
) -> "tuple[Proposal, Path]":
    """Swarm, fit and optimum, and the file of the mixing report."""
    from olmeval.mixing.asked import ask
    from olmeval.mixing.domains import load_domains
    from olmeval.mixing.fitting import fit_swarm
    from olmeval.mixing.launch import launch
    from olmeval.mixing.output import load_proposal, save_proposal
    from olmeval.mixing.priors import measure_domains, save_domains
    from olmeval.mixing.proposal import propose
    from olmeval.mixing.sampling import SwarmSettings, advised_runs
    from olmeval.mixing.swarm import design_swarm, save_swarm
    from olmeval.mixing.tables import read_swarm
    from olmeval.reports.mixing import write_mixing_report

    out = stage.output / "swarm"
    save_domains(measure_domains(stage.corpus, DOMAINS), out / "domains.yaml")
    tree = load_domains(out / "domains.yaml")
    settings = SwarmSettings(runs or advised_runs(tree), strength=STRENGTH)
    save_swarm(design_swarm(tree, settings), settings, out)
    launch(
        out / "ratios.csv", stage.recipe(**{"checkpoint.every": 1 << 30}), stage.tasks,
        out / "scored", executor=executor, execution=stage.execution, tree=tree, limit=LIMIT,
        task_paths=[stage.output / "tasks"], progress=stage.progress,
    )  # fmt: skip
    clock.stage("mixture", "the law fitted to the swarm, and the mixture that it asks for")
    fit = fit_swarm(read_swarm(out / "scored/ratios.csv", out / "scored/metrics.csv"))
    fit.save(out / "fit")
    asked = ask(fit.table.domains, tree=out / "domains.yaml", contents=fit.table.contents)
    proposal = propose(fit, asked.constraints, prior=asked.prior)
    folder = out / "optimized"
    save_proposal(proposal, folder, about={"fit": str(out / "fit")}, tree=tree)
    given = {"optimized": load_proposal(folder)}
    _, numbers = write_mixing_report(fit, out / "mixture.html", proposals=given)
    return proposal, numbers


def _confirm(
    stage: Stage, executor: "Executor", mixtures: Mapping[str, Mapping[str, float]]
) -> "tuple[pd.DataFrame, Comparison]":
    """Trains both mixtures with every seed; the long table of all checkpoints, who is better."""
    from olmeval.engine.evaluate import evaluate_many
    from olmeval.results.run import find_runs, long_table
    from olmeval.trainer.swarm import proxies, run_swarm

    every = round(stage.tokens / (128 * 8) / CHECKPOINTS)
    recipe = stage.recipe(
        **{"checkpoint.every": every, "train.tokens": every * CHECKPOINTS * 128 * 8}
    )
    shares = {name: {d: w for d, w in of.items() if w > 0} for name, of in mixtures.items()}
    folder = stage.output / "confirmed"
    with executor:
        trained = run_swarm(
            proxies(recipe, shares, SEEDS), folder, executor=executor, progress=stage.progress
        )
    if trained.failed:
        raise UserError(f"'{trained.failed[0].run}' failed: {trained.failed[0].error}")
    evaluate_many(
        [folder / proxy.folder for proxy in trained.proxies], stage.tasks,
        output=stage.output / "runs", limit=LIMIT, execution=stage.execution,
        task_paths=[stage.output / "tasks"], beside=False, progress=stage.progress,
    )  # fmt: skip
    table = long_table(find_runs([stage.output / "runs"]))
    last = table[table["primary"] & (table["step"] == table["step"].max())]
    means = last.groupby(["mix", "seed"])["value"].mean()
    scores = {mix: tuple(map(float, means[mix])) for mix in mixtures}
    return table, Comparison(scores, *welch(scores["natural"], scores["optimized"]))


def welch(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Mean of ``a`` less that of ``b``, and half its interval (Welch 1947, unequal variances)."""
    from scipy.stats import ttest_ind

    found = ttest_ind(a, b, equal_var=False)
    low, high = found.confidence_interval(level)
    return float(low + high) / 2, float(high - low) / 2


def _ladder(stage: Stage, executor: "Executor") -> "tuple[list[Measured], Path]":
    """Rungs and target; the forecast beside what was measured, and the file of the report."""
    from olmeval.ladders.curves import make_ladder
    from olmeval.ladders.rungs import predict_target, run
    from olmeval.ladders.spec import Target, load_ladder
    from olmeval.reports.ladder import write_ladder_report
    from olmeval.results.table import load_table

    file, _ = load_ladder("cpu-demo")
    if file.training is None:
        raise UserError("the shipped ladder 'cpu-demo' has no 'training'; install olmeval again")
    training = file.training.model_copy(update=LADDER)
    file = file.model_copy(update={"training": training})
    with executor:
        table = run(file, stage.corpus, stage.output / "ladder", executor, progress=stage.progress)
    scale, rows, made = predict_target(file, table)
    target = Target(
        params=int(scale.params), tokens=int(scale.tokens),
        flops_per_token=round(scale.flops / scale.tokens), run=scale.target,
    )  # fmt: skip
    ladder = make_ladder(
        file.model_copy(update={"targets": {str(scale.target): target}}), load_table([table])
    )
    _, numbers = write_ladder_report(ladder, made, [scale], stage.output / "ladder/ladder.html")
    return rows, numbers


def _decide(stage: Stage, table: "pd.DataFrame") -> "tuple[pd.DataFrame, GateReport, Path]":
    """SNR of the confirmation runs' checkpoints; the optimized run against the natural one."""
    from olmeval.analysis.gate import check
    from olmeval.analysis.gate_baseline import record
    from olmeval.analysis.gate_policy import load_policy
    from olmeval.analysis.gate_write import as_json
    from olmeval.analysis.snr import SnrSettings, snr_table
    from olmeval.results.run import find_runs

    last = {
        run.info["model"]["metadata"]["mix"]: run
        for run in find_runs([stage.output / "runs"])
        if run.info["model"]["metadata"]["run"].endswith(f"seed{SEEDS[0]}")
        and run.info["model"]["metadata"]["step"] == table["step"].max()
    }
    own = table[table["run"] == last["natural"].info["model"]["metadata"]["run"]]
    baseline = record(last["natural"], stage.output / "baseline.json", own)
    gate = check(last["optimized"], baseline, load_policy(None))
    write_json(stage.output / "gate.json", as_json(gate))
    snr = snr_table(table[table["primary"]], SnrSettings(last=3))
    return snr, gate, stage.output / "gate.json"


def _sentence(c: Comparison) -> str:
    verdict = "more than its interval" if abs(c.gain) > c.halfwidth else "less than its interval"
    return (
        f"Trained anew with {len(SEEDS)} seeds each, the optimized mixture is better than the "
        f"natural one by {c.gain:.3f} ± {c.halfwidth:.3f} bits per byte, the mean over tasks: "
        f"{verdict}."
    )
