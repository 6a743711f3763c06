"""``evaluate``: checkpoints and task specs in, run folders with scores and errors out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from olmeval.backends.base import COUNTS, ModelInfo
from olmeval.backends.checkpoints import SERVER_URL, Checkpoint, find_checkpoints
from olmeval.engine.dry_run import DryRun, dry_run
from olmeval.engine.folder import RunFolder
from olmeval.engine.infer import about, model_key
from olmeval.engine.opening import Opened, open_model
from olmeval.engine.place import Place, moves
from olmeval.engine.prepare import Part, Prepared
from olmeval.engine.progress import Bars
from olmeval.engine.settings import Execution, Settings
from olmeval.engine.shards import Model, Shard, loaded, release, run_shard
from olmeval.engine.work import Work, load_work
from olmeval.errors import UserError
from olmeval.executors.base import Done
from olmeval.executors.registry import make_executor
from olmeval.results.run import Run
from olmeval.results.segments import ResponseStore, store_dir

# Parts of a model's questions for each worker: small enough that none waits long for the last.
PARTS_PER_WORKER = 4


def evaluate(
    model: str | Path,
    tasks: Sequence[str],
    *,
    output: str | Path = "runs",
    limit: int | float | None = None,
    settings: Settings | None = None,
    execution: Execution | None = None,
    store: str | Path | None = None,
    task_paths: Sequence[str | Path] = (),
    allow_errors: bool = False,
    beside: bool = True,
    progress: bool = False,
) -> Run:
    """Scores one checkpoint on ``tasks``; see :func:`evaluate_many`.

    Raises :class:`UserError` when ``model`` names several checkpoints.
    """
    found = find_checkpoints(model)
    if len(found) > 1:
        raise UserError(f"'{model}' holds {len(found)} checkpoints; use evaluate_many, or name one")
    return evaluate_many(
        [model], tasks, output=output, limit=limit, settings=settings, execution=execution,
        store=store, task_paths=task_paths, allow_errors=allow_errors, beside=beside,
        progress=progress,
    )[0]  # fmt: skip


def evaluate_many(
    models: Sequence[str | Path],
    tasks: Sequence[str],
    *,
    output: str | Path = "runs",
    limit: int | float | None = None,
    settings: Settings | None = None,
    execution: Execution | None = None,
    store: str | Path | None = None,
    task_paths: Sequence[str | Path] = (),
    allow_errors: bool = False,
    beside: bool = True,
    progress: bool = False,
) -> list[Run]:
    """Scores every checkpoint that ``models`` name; one run folder each, ``output/<name>``.

    A folder that already holds the same question's answers is not computed again; whatever
    ``store`` (default: :func:`store_dir`) holds of the others is used. Where ``output/<name>``
    holds other tasks, or another limit, the run goes to ``output/<name>-2`` and so on
    (:attr:`Run.path` says where), or is refused unless ``beside``; other weights, data or settings
    are always refused. ``limit`` takes so many documents of each task (int) or that fraction
    (float). ``execution`` says where the work is done; the numbers are the same everywhere.

    A checkpoint that cannot be loaded does not stop the others: its ``run.json`` says ``failed``,
    and a :class:`UserError` is raised at the end. Instances that could not be scored are errors:
    their task reports them, the run's status is ``errors`` and, unless ``allow_errors``, a
    :class:`UserError` is raised at the end, too.
    """
    settings, execution = settings or Settings(), execution or Execution()
    options = settings.load_options
    if execution.gpus_per_worker and options.device is None:
        # Planning here must not depend on whether this machine has the workers' GPUs.
        options = replace(options, device="cuda")
    wanted = [Model(c, settings.backend or _backend(c), options) for c in _distinct(models)]
    work = load_work(
        tasks, limit, [Path(p) for p in task_paths], settings.max_new_tokens, settings.running
    )
    with Bars(progress, [w.task.name for w in work.tasks], len(wanted)) as bars:
        session = Session(
            work, Path(output), settings, limit, Path(store or store_dir()), bars, beside
        )
        session.run(wanted, execution)
    _raise_failures(session.failures, len(wanted))
    runs = [Run(session.places[m.checkpoint.name].path) for m in wanted]
    if not allow_errors:
        _raise_errors(runs)
    return runs


def plan_run(
    models: Sequence[str | Path],
    tasks: Sequence[str],
    *,
    limit: int | float | None = None,
    settings: Settings | None = None,
    task_paths: Sequence[str | Path] = (),
) -> DryRun:
    """What :func:`evaluate_many` would ask of each model, and how long the first one would take.

    The time comes from a probe of some seconds; nothing is stored.
    """
    settings = settings or Settings()
    work = load_work(
        tasks, limit, [Path(p) for p in task_paths], settings.max_new_tokens, settings.running
    )
    checkpoint = _distinct(models)[0]
    model = Model(checkpoint, settings.backend or _backend(checkpoint), settings.load_options)
    opened = open_model(model)
    try:
        return dry_run(
            work, opened.tokenizer, opened.info.max_length, opened.row_tokens,
            settings.batch_size, settings.window_overlap, loaded(model),
        )  # fmt: skip
    finally:
        release()


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


def _backend(checkpoint: Checkpoint) -> str:
    return "server" if SERVER_URL.match(checkpoint.source) else "transformers"


@dataclass
class Pending:
    """A model whose questions are not all answered; ``left`` counts its unanswered shards."""

    model: Model
    opened: Opened
    prepared: Prepared
    folder: RunFolder
    left: int = 0

    @property
    def name(self) -> str:
        return self.model.checkpoint.name

    @property
    def tokenizer(self) -> str:
        return self.opened.tokenizer.hash


class Session:
    """One call of :func:`evaluate_many`: its models on their way from shards to run folders."""

    def __init__(
        self,
        work: Work,
        output: Path,
        settings: Settings,
        limit: int | float | None,
        store: Path,
        bars: Bars,
        beside: bool = True,
    ):
        self.work, self.output, self.settings, self.limit = work, output, settings, limit
        self.store, self.bars, self.beside = store, bars, beside
        self.failures: dict[str, str] = {}
        self.places: dict[str, Place] = {}
        self._parts: dict[tuple[int, int], list[Part]] = {}

    def run(self, models: Sequence[Model], execution: Execution) -> None:
        """Answers and scores what is missing of ``models``."""
        runs = [run for model in models if (run := self._open(model)) is not None]
        if moved := moves(list(self.places.values())):
            self.bars.say(moved)
        try:
            with make_executor(
                execution.executor,
                execution.workers,
                gpus_per_worker=execution.gpus_per_worker,
                address=execution.ray_address,
            ) as executor:
                n = 1
                if executor.workers > 1 and runs:
                    n = -(-PARTS_PER_WORKER * executor.workers // len(runs))
                of_run = [(run, shard) for run in runs for shard in self._shards(run, n)]
                for done in executor.map(
                    run_shard,
                    [shard for _, shard in of_run],
                    affinity=lambda shard: shard.model.checkpoint.source,
                    on_report=lambda k, counts: self.bars.advance(of_run[k][0].name, counts),
                ):
                    self._done(of_run[done.index][0], done)
        finally:
            release()

    def _open(self, model: Model) -> Pending | None:
        """The model with its folder and questions; None when complete, or when unreadable."""
        name = model.checkpoint.name
        try:
            opened = open_model(model)
        except UserError as error:
            self._fail(name, str(error))
            return None
        asked = {
            "fingerprint": opened.info.fingerprint,
            "tasks": {w.task.name: w.task.hash for w in self.work.tasks},
            "suites": sorted(self.work.suites),
            "limit": self.limit,
            "backend": model.backend,
            **self.settings.numbers,
        }
        folder = RunFolder.open(self.output, opened.info, asked, self.beside)
        self.places[name] = folder.place
        if folder.complete:
            self.bars.end(name)
            return None
        prepared = self.work.prepare(
            opened.tokenizer,
            opened.info.max_length,
            opened.row_tokens,
            self.settings.batch_size,
            self.settings.window_overlap,
        )
        while not folder.begin(self.work, opened.tokenizer.hash):
            folder = RunFolder.open(self.output, opened.info, asked, self.beside)
        self.places[name] = folder.place
        self.bars.begin(name, prepared.questions)
        return Pending(model, opened, prepared, folder)

    def _shards(self, run: Pending, n: int) -> list[Shard]:
        # One set of parts for all models that share their questions.
        key = (id(run.prepared), run.opened.samples_at_once)
        if key not in self._parts:
            self._parts[key] = run.prepared.parts(n, run.opened.samples_at_once)
        parts = self._parts[key]
        run.left = len(parts)
        return [Shard(run.model, part, self.store) for part in parts]

    def _done(self, run: Pending, done: Done[ModelInfo]) -> None:
        """A shard has ended; the last of a run makes its scores."""
        run.left -= 1
        folder = run.folder
        if done.result is not None:
            folder.info = _joined(folder.info, done.result)
        if done.error is not None:
            folder.write_status("failed", self.work, run.tokenizer, error=done.error)
            self._fail(run.name, done.error)
        if run.left or run.name in self.failures:
            return
        with ResponseStore(self.store).model(model_key(folder.info), about(folder.info)) as store:
            running = replace(self.settings.running, progress=self.bars.judging(run.name))
            folder.finish(self.work, run.prepared, run.tokenizer, store.load(), running)
        self.bars.end(run.name)

    def _fail(self, name: str, error: str) -> None:
        self.failures.setdefault(name, error)
        self.bars.end(name)


def _joined(before: ModelInfo, now: ModelInfo) -> ModelInfo:
    """What a worker says of its model after one part, with what was said after earlier parts.

    That of kinds which this part did not have is kept; counts are added up.
    """
    settings = dict(now.settings)
    for key, value in now.settings.items():
        earlier = before.settings.get(key)
        if isinstance(value, dict) and isinstance(earlier, dict):
            settings[key] = {**earlier, **value}
            if key == COUNTS:
                settings[key] |= {name: n + earlier.get(name, 0) for name, n in value.items()}
    return replace(now, settings=settings)


def _raise_failures(failures: dict[str, str], models: int) -> None:
    if not failures:
        return
    name, first = next(iter(failures.items()))
    if models == 1:
        raise UserError(first)
    raise UserError(
        f"{len(failures)} of {models} models failed, the others are scored; '{name}': {first}"
    )


def _raise_errors(runs: Sequence[Run]) -> None:
    bad = [run for run in runs if run.info["status"] == "errors"]
    if bad:
        counts = {t: r["errors"] for t, r in bad[0].metrics["tasks"].items() if r["errors"]}
        listed = ", ".join(f"{n} in {t}" for t, n in counts.items())
        raise UserError(
            f"{len(bad)} of {len(runs)} runs have instances that could not be scored (in "
            f"'{bad[0].path}': {listed}); pass --allow-errors to accept them"
        )
