"""From mixtures to scores: train a swarm's proxies, score them, write the two tables.

The trainer's swarm runner trains, the engine scores, each on the executor that it is given and each
of them going on where it was stopped. :func:`collect` makes the tables of proxies that were trained
elsewhere: all it needs are the run folders of their evaluations.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olmeval.errors import UserError
from olmeval.files import read_json, write_json, write_text
from olmeval.mixing.domains import Domains
from olmeval.mixing.evidence import check_contents, evidence_beside, save_evidence
from olmeval.mixing.tables import read_ratios

if TYPE_CHECKING:
    from olmeval.engine.settings import Execution
    from olmeval.executors.base import Executor
    from olmeval.trainer.recipe import Recipe

RATIOS, METRICS, LONG, TARGETS = "ratios.csv", "metrics.csv", "table.csv", "targets.json"


@dataclass(frozen=True)
class Launched:
    """A swarm that was trained and scored. ``failed``: proxies without a result, by name and why;
    ``higher``: targets of which more is better."""

    output: Path
    rows: int
    targets: tuple[str, ...]
    higher: tuple[str, ...]
    failed: dict[str, str]


def launch(
    ratios: Path,
    recipe: "Recipe",
    tasks: Sequence[str],
    output: Path,
    *,
    executor: "Executor",
    execution: "Execution | None" = None,
    tree: Domains | None = None,
    seeds: Sequence[int] = (0,),
    limit: int | float | None = None,
    task_paths: Sequence[str | Path] = (),
    retries: int = 2,
    progress: bool = True,
) -> Launched:
    """Trains every mixture of ``ratios`` with every seed, and scores the last checkpoints.

    ``tree`` expands frozen blocks to their members. Proxies go to ``output/proxies``, evaluations
    to ``output/evals``; then ``ratios.csv``, ``metrics.csv``, ``evidence.json`` (fingerprints of
    the data) and the long table are written. Called again, it goes on. A proxy that failed has no
    row and is named. Raises :class:`UserError` on mixtures that the data does not have, contents
    other than those recorded, tasks that do not exist, or when no proxy came through.
    """
    from olmeval.engine.evaluate import evaluate_many
    from olmeval.trainer.swarm import proxies, run_swarm

    runs, domains, X = read_ratios(ratios)
    if tree is not None and tree.names != domains:
        raise UserError(f"'{ratios}' has other domains than the domains.yaml; draw the swarm again")
    contents = _contents(recipe.data.root)
    where = f"the data in '{recipe.data.root}'"
    if tree is not None:
        check_contents(tree.fingerprints(), contents, "the domains.yaml", where)
    check_contents(evidence_beside(ratios), contents, f"'{ratios}'", where)
    check_contents(evidence_beside(output / RATIOS), contents, f"'{output}'", where)
    mixtures = {}
    for name, row in zip(runs, X.tolist(), strict=True):
        weights = dict(zip(domains, row, strict=True))
        expanded = tree.expand(weights) if tree else weights
        mixtures[name] = {d: w for d, w in expanded.items() if w > 0}
    with executor:
        trained = run_swarm(
            proxies(recipe, mixtures, seeds),
            output / "proxies",
            executor=executor,
            retries=retries,
            progress=progress,
        )
    done = [proxy for proxy in trained.proxies if proxy.status == "done"]
    failed = {proxy.run: proxy.error or "no result" for proxy in trained.failed}
    if not done:
        raise UserError(
            f"no proxy came through; the first failed with: {next(iter(failed.values()))}"
        )
    evaluate_many(
        [output / "proxies" / proxy.folder / f"step{proxy.steps}" for proxy in done],
        tasks,
        output=output / "evals",
        limit=limit,
        execution=execution,
        task_paths=task_paths,
        beside=False,
        progress=progress,
    )
    mixture_of = {proxy.run: proxy.mix for proxy in done}
    shares = {name: dict(zip(domains, row, strict=True)) for name, row in zip(runs, X, strict=True)}
    rows = {run: shares[mix] for run, mix in mixture_of.items()}
    used = {name for weights in mixtures.values() for name in weights}
    save_evidence(output, {name: contents.get(name) for name in sorted(used)})
    return _write(output, rows, domains, [output / "evals"], failed)


def _contents(root: Path) -> dict[str, str | None]:
    """Fingerprints of the data that proxies are trained on."""
    from olmeval.mixing.priors import measure_domains

    return {name: node.fingerprint for name, node in measure_domains(root).items()}


def collect(mixtures: Path, evaluations: Sequence[Path], output: Path) -> Launched:
    """Tables of proxies trained elsewhere.

    ``mixtures``: a ``ratios.csv`` whose runs are named like the models, or the folder of a swarm
    that the trainer ran. ``evaluations``: run folders of ``olmeval run``, or folders of them. The
    last step of a run counts. Raises :class:`UserError` when no evaluation has a mixture.
    """
    if mixtures.is_dir():
        table = read_json(mixtures / "swarm.json")
        entries = table if isinstance(table, list) else table.get("proxies", [])
        rows = {entry["run"]: dict(entry["weights"]) for entry in entries}
        domains = tuple(sorted({name for weights in rows.values() for name in weights}))
    else:
        runs, domains, X = read_ratios(mixtures)
        rows = {
            run: dict(zip(domains, row, strict=True))
            for run, row in zip(runs, X.tolist(), strict=True)
        }
    if recorded := evidence_beside(mixtures):
        save_evidence(output, recorded)
    return _write(output, rows, domains, evaluations, {})


def _write(
    output: Path,
    rows: dict[str, dict[str, float]],
    domains: tuple[str, ...],
    evaluations: Sequence[Path],
    failed: dict[str, str],
) -> Launched:
    """Joins mixtures and scores by the run's name, and writes the tables."""
    from olmeval.results.run import find_runs, long_table

    found = find_runs(evaluations)
    latest: dict[str, tuple[int, dict[str, tuple[float, bool]]]] = {}
    for run in found:
        metadata = run.info["model"]["metadata"]
        name = run.name
        step = int(metadata.get("step") or 0)
        if name in rows and (name not in latest or step >= latest[name][0]):
            same_step = name in latest and latest[name][0] == step
            before = latest[name][1] if same_step else {}
            latest[name] = step, {**before, **_primary(run.metrics["tasks"])}
    if not latest:
        raise UserError(
            "no evaluation belongs to a mixture; the runs' names must be those in the table of "
            f"mixtures, such as '{next(iter(rows))}'"
        )
    for name in rows:
        if name not in latest and name not in failed:
            failed[name] = "not evaluated"
    targets = sorted({target for _, scores in latest.values() for target in scores})
    higher = sorted(
        {t for _, scores in latest.values() for t, (_, upwards) in scores.items() if upwards}
    )
    names = sorted(latest)
    write_text(output / RATIOS, _csv(["run", *domains], [
        [name, *(float(rows[name].get(domain, 0.0)) for domain in domains)] for name in names
    ]))  # fmt: skip
    write_text(output / METRICS, _csv(["run", *targets], [
        [name, *(latest[name][1].get(target, ("", False))[0] for target in targets)]
        for name in names
    ]))  # fmt: skip
    write_text(output / LONG, long_table(found).to_csv(index=False))
    write_json(output / TARGETS, {"higher": higher, "failed": failed})
    return Launched(output, len(names), tuple(targets), tuple(higher), failed)


def _primary(tasks: dict[str, dict[str, Any]]) -> dict[str, tuple[float, bool]]:
    """Every task's primary metric: its value, and whether more is better."""
    scores = {}
    for task, result in tasks.items():
        metric = result["metrics"][result["primary_metric"]]
        scores[task] = float(metric["value"]), bool(metric["higher_is_better"])
    return scores


def _csv(header: list[str], rows: list[list[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
