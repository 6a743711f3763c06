"""Token boundaries on runs of a real model and tokenizer, proven by the keys of the answers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from olmeval.engine.evaluate import evaluate
from olmeval.engine.settings import Settings
from olmeval.reports.view.app import App
from olmeval.reports.view.tokens import Tokenizers, pieces
from olmeval.results.answers import read_answers
from olmeval.results.run import Run

TASKS = """
families:
  puzzles:
    summary: Choices, sums and documents with characters of several tokens.
    split: test
    splits: {test: [{file: puzzles.jsonl}]}
    default: rc
    formats:
      rc: {prompt: "Question: {question}\\nAnswer:", primary: acc_per_char, num_shots: 0}
      genqa:
        prompt: "Question: {question}\\nAnswer:"
        references: "{text}"
        grader: squad
        sampling: {stop: ["Question:"], max_tokens: 6}
        primary: f1
        num_shots: 0
  pages:
    summary: Documents.
    split: test
    splits: {test: [{file: pages.jsonl}]}
    default: ppl
    formats:
      ppl: {prompt: "", target: "{text}", primary: bits_per_byte, num_shots: 0}
"""
NAMES = ("puzzles:rc:0shot", "puzzles:genqa:0shot", "pages:ppl:0shot")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "puzzles.yaml").write_text(TASKS)
    puzzles = [
        {"id": f"p{k}", "question": "Où est " * (1 + 60 * (k == 2)) + f"le \U0001f600 {k}?",
         "choices": ["ici", "là-bas \U0001f642", " deux  espaces"], "gold": k % 3,
         "text": ["ici"]}
        for k in range(4)
    ]  # fmt: skip
    (folder / "puzzles.jsonl").write_text("".join(json.dumps(p) + "\n" for p in puzzles))
    pages = [{"id": "long", "text": "Names refer to objects, é too. " * 40}]
    (folder / "pages.jsonl").write_text("".join(json.dumps(p) + "\n" for p in pages))
    shutil.copytree(checkpoint, folder / "model")
    evaluate(
        folder / "model", NAMES, output=folder / "runs", task_paths=[folder],
        store=folder / "store", settings=Settings(device="cpu", max_length=128),
    )  # fmt: skip
    return folder / "runs"


@pytest.fixture(scope="module")
def app(runs: Path) -> App:
    return App([runs])


@pytest.mark.parametrize("doc", [0, 1, 2])
def test_tokens_of_choices(app: App, runs: Path, doc: int) -> None:
    query = {"run": "model", "task": "puzzles:rc:0shot", "doc": str(doc)}
    side = app.answer("instance", query)["sides"][0]
    found = app.answer("tokens", query)
    assert side["gold"] == doc % 3 and side["truncated"] == (doc == 2)
    for choice, tokens in zip(side["choices"], found["requests"], strict=True):
        context = "".join(found["contexts"][tokens["context"]])
        scored = "".join(tokens["scored"])
        whole = side["prompt"] + choice["text"]
        assert whole.endswith(context.lstrip("\ufffd") + scored)
        assert (tokens["cut"] > 0) == (doc == 2)
        if doc != 2:
            assert context + scored == whole and scored == choice["text"]
        assert len(tokens["scored"]) == choice["tokens"] == len(tokens["logprobs"])
        assert tokens["logprobs"] == choice["token_logprobs"]
        assert sum(tokens["logprobs"]) == pytest.approx(choice["logprob"], rel=1e-6)


def test_tokens_of_prompts_and_documents(app: App, runs: Path) -> None:
    prompt = app.answer("tokens", {"run": "model", "task": "puzzles:genqa:0shot", "doc": "0"})
    assert "".join(prompt["contexts"][0]) == "Question: Où est le \U0001f600 0?\nAnswer:"
    query = {"run": "model", "task": "pages:ppl:0shot", "doc": "0"}
    (page,) = app.answer("tokens", query)["requests"]
    assert page["windows"] > 2
    assert "".join(page["scored"]) == "Names refer to objects, é too. " * 40
    # All windows' log-probabilities together are the document's bits per byte.
    bits = app.answer("instance", query)["sides"][0]["values"]["bits_per_byte"]
    size = len(("Names refer to objects, é too. " * 40).encode())
    assert -sum(page["logprobs"]) / np.log(2) / size == pytest.approx(bits, rel=1e-6)


def test_without_the_tokenizer_the_page_says_so_and_another_place_serves(
    app: App, runs: Path, tokenizer_dir: Path
) -> None:
    query = {"run": "model", "task": "puzzles:rc:0shot", "doc": "0"}
    info = runs / "model" / "run.json"
    whole = info.read_text()
    try:
        told = json.loads(whole)
        told["model"]["path"] = "/gone"
        info.write_text(json.dumps(told))
        error = App([runs]).answer("tokens", query)["error"]
        assert "no tokenizer in '/gone'" in error and "--tokenizer DIR" in error
        assert App([runs], [tokenizer_dir]).answer("tokens", query)["contexts"]
    finally:
        info.write_text(whole)


def test_a_tokenizer_that_gives_other_ids_is_not_believed(runs: Path, tokenizer_dir: Path) -> None:
    from olmeval.reports.view.answers import read_requests

    run = Run(runs / "model")
    stored = read_requests(runs / "model" / "requests.parquet", "puzzles:rc:0shot", [0])[0]
    assert stored.key is not None
    tokenizers = Tokenizers([tokenizer_dir])
    assert tokenizers.windows(run.info, stored.request, stored.key)
    assert tokenizers.windows(run.info, stored.request, b"0" * 16) is None
    other = {**run.info, "model": {**run.info["model"], "max_length": 8}}
    assert tokenizers.windows(other, stored.request, stored.key) is None


def test_pieces_join_to_the_text(tokenizer_dir: Path) -> None:
    from olmeval.backends.tokenization import Tokenizer

    tokenizer = Tokenizer.load(tokenizer_dir)
    for text in ("plain", "é\U0001f600\U0001f469‍\U0001f680 ü", "مرحبا", "a\ufffdb", "\n\n\t x  y"):
        (ids,) = tokenizer.encode([text])
        found = pieces(tokenizer, ids)
        assert "".join(found) == text and len(found) == len(ids)
    (ids,) = tokenizer.encode(["\U0001f600"])
    assert pieces(tokenizer, ids)[-1] == "\U0001f600" and set(pieces(tokenizer, ids)[:-1]) <= {""}
    assert pieces(tokenizer, ids[:-1])[-1]  # half a character is shown as what it is


def test_few_answers_are_read_as_all_are(runs: Path) -> None:
    from olmeval.reports.view.answers import read_responses

    path = runs / "model" / "responses.parquet"
    answers = read_answers(path)
    keys = [key.tobytes() for key in answers.keys]
    found = read_responses(path, [*keys[::-1], b"\xff" * 16, b"\0" * 16])
    assert found.keys() == set(keys)
    for row, key in enumerate(keys):
        expected = answers.response(row)
        assert found[key].logprob == expected.logprob and found[key].samples == expected.samples
