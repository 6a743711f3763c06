"""Dry runs against what runs then do, and against counting by hand."""

import json
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from olmeval.backends.base import Backend, LoadOptions
from olmeval.backends.checkpoints import find_checkpoints
from olmeval.backends.tokenization import Tokenizer
from olmeval.engine import probe
from olmeval.engine.dry_run import DryRun, dry_run
from olmeval.engine.evaluate import evaluate
from olmeval.engine.load import load_backend
from olmeval.engine.settings import Settings
from olmeval.engine.work import Work, load_work
from tests.engine.private_tasks import write_boxes

WINDOW, ROWS = 2048, 64


@pytest.fixture(scope="module")
def task_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes(tmp_path_factory.mktemp("tasks"), 30)


@pytest.fixture(scope="module")
def tokenizer(tokenizer_dir: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_dir)


@pytest.fixture(scope="module")
def backend(checkpoint: Path) -> Backend:
    return load_backend("transformers", find_checkpoints(checkpoint)[0], LoadOptions(device="cpu"))


def by_hand(work: Work, tokenizer: Tokenizer) -> tuple[int, set[tuple[int, ...]]]:
    """Tokens fed one request at a time, and all prefixes of what is fed."""
    naive, prefixes = 0, set()
    for task in work.tasks:
        for instance in task.instances:
            for r in (*instance.requests, *instance.unconditional):
                if r.kind != "loglikelihood":
                    continue
                ids = tokenizer.hf(r.context + r.continuation)["input_ids"][:-1]
                naive += len(ids)
                prefixes |= {tuple(ids[:k]) for k in range(1, len(ids) + 1)}
    return naive, prefixes


def test_tokens_are_those_counted_by_hand(task_dir: Path, tokenizer: Tokenizer) -> None:
    specs = ["boxes:rc", "boxes:mc", "boxes:genqa"]
    result = dry_run(load_work(specs, None, [task_dir]), tokenizer, WINDOW, ROWS)
    for spec, line in zip(specs, result.tasks, strict=True):
        naive, tree = by_hand(load_work([spec], None, [task_dir]), tokenizer)
        assert line.name.startswith(f"{spec}:0shot")
        assert (line.tokens_naive, line.tokens_tree) == (naive, len(tree))
        assert line.tokens_tree <= line.tokens_planned <= line.tokens_naive
    naive, tree = by_hand(load_work(specs, None, [task_dir]), tokenizer)
    assert (result.total.tokens_naive, result.total.tokens_tree) == (naive, len(tree))
    # Both formats begin with the passage, so the run is less than its tasks.
    assert result.total.tokens_tree < sum(line.tokens_tree for line in result.tasks)
    rc, mc, genqa = result.tasks
    assert (rc.requests, mc.requests, genqa.requests) == (120, 120, 30)
    assert (rc.kind, genqa.kind, result.total.kind) == ("loglikelihood", "generate", "mixed")
    assert result.total.requests == result.total.distinct == 270


def test_generations_are_counted(task_dir: Path, tokenizer: Tokenizer) -> None:
    work = load_work(["boxes:genqa", "boxes:rc"], None, [task_dir])
    generation = dry_run(work, tokenizer, WINDOW, ROWS).tasks[0].generation
    prompts = [i.requests[0].context for i in work.tasks[0].instances]
    assert (generation.prompts, generation.samples) == (30, 60)
    assert generation.prompt_tokens == 2 * sum(map(len, tokenizer.encode(prompts)))
    assert generation.new_tokens == 60 * 8
    rc = dry_run(work, tokenizer, WINDOW, ROWS).tasks[1].generation
    assert (rc.prompts, rc.new_tokens) == (0, 0)


def test_the_same_twice_is_asked_once(task_dir: Path, tokenizer: Tokenizer) -> None:
    work = load_work(["boxes:rc", "boxes:bpb"], None, [task_dir])
    result = dry_run(work, tokenizer, WINDOW, ROWS)
    rc, bpb = result.tasks
    assert (rc.requests, bpb.requests) == (120, 30)
    # Bits per byte are those of a choice that is scored anyway.
    assert result.total.requests == 150
    assert result.total.distinct == 120
    assert result.total.tokens_planned == rc.tokens_planned
    assert result.total.tokens_naive == rc.tokens_naive + bpb.tokens_naive


@pytest.mark.parametrize("window", [4, 40, 2048])
def test_cautions_are_the_counters_of_the_run(
    checkpoint: Path, task_dir: Path, tmp_path: Path, tokenizer: Tokenizer, window: int
) -> None:
    specs = ["boxes:rc", "boxes:mc"]
    settings = Settings(device="cpu", max_length=window)
    run = evaluate(
        checkpoint, specs, output=tmp_path, settings=settings, task_paths=[task_dir],
        store=tmp_path / "store", allow_errors=True,
    )  # fmt: skip
    result = dry_run(load_work(specs, None, [task_dir]), tokenizer, window, ROWS)
    for line in result.tasks:
        done = run.metrics["tasks"][line.name]
        assert line.instances == done["instances"]
        assert line.cautions.too_long == done["errors"]
        for name in ("truncated", "seams", "moved_spaces", "double_spaces", "missing_bos"):
            assert getattr(line.cautions, name) == done["counters"][name], name
    assert (result.tasks[0].cautions.too_long > 0) == (window == 4)
    assert (result.total.cautions.truncated > 0) == (window < 2048)
    assert result.total.tokens_planned <= run.metrics["tokens"]["planned"] * 1.1


def test_documents_are_counted_by_window(tmp_path: Path, tokenizer: Tokenizer) -> None:
    text = "Names refer to objects. Names are introduced by name binding operations. " * 20
    rows = [{"id": f"d{k}", "text": f"{k} {text}"} for k in range(3)]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "docs.yaml").write_text(
        "families:\n  docs:\n    summary: Documents.\n    split: test\n"
        "    splits: {test: [{file: docs.jsonl}]}\n    default: ppl\n    formats:\n"
        "      ppl: {prompt: '', target: '{text}', primary: bits_per_byte, num_shots: 0}\n"
    )
    (line,) = dry_run(load_work(["docs"], None, [tmp_path]), tokenizer, 64, ROWS).tasks
    tokens = [len(ids) for ids in tokenizer.encode([r["text"] for r in rows])]
    # With the token before the first one, as many are fed as are scored.
    assert line.tokens_naive == sum(tokens)
    assert (line.kind, line.instances, line.requests) == ("rolling", 3, 3)


def test_json(task_dir: Path, tokenizer: Tokenizer, backend: Backend) -> None:
    work = load_work(["boxes:rc", "boxes:genqa"], None, [task_dir])
    result = dry_run(work, tokenizer, WINDOW, ROWS, backend=backend)
    read = json.loads(json.dumps(result.to_json()))
    assert read["total"]["tokens_planned"] == result.total.tokens_planned
    assert read["tasks"][0]["cautions"]["seams"] == 0
    estimate = read["total"]["estimate"]
    assert 0 < estimate["low"] < estimate["seconds"] < estimate["high"]
    assert dry_run(work, tokenizer, WINDOW, ROWS).to_json()["total"]["estimate"] is None


def test_unconditional_requests_count(pulled: Path, tokenizer: Tokenizer) -> None:
    work = load_work(["arc_challenge:rc:5shot"], 20)
    line = dry_run(work, tokenizer, WINDOW, ROWS).tasks[0]
    assert work.tasks[0].unconditional is not None
    assert line.requests == 2 * len(work.tasks[0].conditioned)
    naive, tree = by_hand(work, tokenizer)
    assert (line.tokens_naive, line.tokens_tree) == (naive, len(tree))


def timed(backend: Backend, work: Work, result: DryRun) -> float:
    """Processor seconds, which no other process of the machine lengthens."""
    prepared = work.prepare(backend.tokenizer, backend.info.max_length, backend.max_row_tokens)
    begun = time.process_time()
    for _ in backend.score(prepared.plan, prepared.plan.steps):
        pass
    if prepared.prompts:
        # As long as they may be: that is what is estimated.
        asked = [
            replace(p, sampling=replace(p.sampling, stop=())) for p in prepared.prompts.values()
        ]
        list(backend.generate(asked))
    return time.process_time() - begun


@pytest.mark.slow
@pytest.mark.parametrize("specs", [["boxes:rc", "boxes:mc"], ["boxes:genqa"]])
def test_the_estimate_is_within_a_factor_of_two(
    backend: Backend, tmp_path: Path, specs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "time", SimpleNamespace(perf_counter=time.process_time))
    folder = write_boxes(tmp_path, 600)
    work = load_work(specs, None, [folder])
    off = []
    # One of them may be disturbed.
    for _ in range(3):
        result = dry_run(
            work, backend.tokenizer, backend.info.max_length, backend.max_row_tokens,
            backend=backend,
        )  # fmt: skip
        assert result.total.estimate is not None
        off.append(result.total.estimate.seconds / timed(backend, work, result))
    assert 0.5 < sorted(off)[1] < 2.0, off
