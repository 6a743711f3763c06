"""Every backend agrees with the straight-line scorer on 2,000 hard requests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from olmeval.backends.base import Backend, LoadOptions
from olmeval.backends.checkpoints import find_checkpoints
from olmeval.engine.collect import Scores, collect
from olmeval.engine.infer import about, answer, model_key
from olmeval.engine.prepare import prepare
from olmeval.engine.shards import Model, loaded, release
from olmeval.requests import Request
from olmeval.results.segments import ResponseStore
from tests.backends.completions_server import Serving, serve
from tests.backends.hard import hard_requests
from tests.backends.straight import StraightLine
from tests.conftest import make_checkpoint

WINDOW = 512
REQUESTS = 2000


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    return hard_requests(REQUESTS)


# Heads of 32 channels: the fewest that vLLM's CPU attention takes.
SHAPE = {"hidden_size": 64, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def without_bos(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("plain") / "tiny", tokenizer_dir, **SHAPE)


@pytest.fixture(scope="module")
def with_bos(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    """A checkpoint whose tokenizer has a BOS token."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("bos")
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir, bos_token="<|endoftext|>")
    tokenizer.save_pretrained(folder / "tokenizer")
    return make_checkpoint(folder / "tiny", folder / "tokenizer", seed=3, **SHAPE)


@pytest.fixture(scope="module")
def expected(
    without_bos: Path, with_bos: Path, requests: list[Request]
) -> Callable[[bool], list[tuple[float, bool, int]]]:
    """The straight line's (log-probability, greedy, tokens), without and with BOS."""
    known: dict[bool, list[tuple[float, bool, int]]] = {}

    def of(bos: bool) -> list[tuple[float, bool, int]]:
        if bos not in known:
            straight = StraightLine(with_bos if bos else without_bos, WINDOW, bos)
            known[bos] = [straight.score(r) for r in requests]
        return known[bos]

    return of


def scores_of(backend: Backend, requests: list[Request], store: Path) -> Scores:
    prepared = prepare(
        requests, np.zeros(len(requests), np.int64), 1, backend.tokenizer,
        backend.info.max_length, backend.max_row_tokens,
    )  # fmt: skip
    (part,) = prepared.parts(1, backend.samples_at_once)
    with ResponseStore(store).model(model_key(backend.info), about(backend.info)) as answers:
        answer(backend, part, answers)
        return collect(len(requests), prepared, answers.load())


def assert_agrees(scores: Scores, expected: list[tuple[float, bool, int]]) -> None:
    assert not scores.failed.any()
    logprob, greedy, tokens = (np.array(column) for column in zip(*expected, strict=True))
    assert (scores.tokens == tokens).all()
    assert np.abs(scores.logprob - logprob).max() < 1e-3
    assert (scores.greedy == greedy).all()


@pytest.mark.parametrize("bos", [False, True], ids=["no-bos", "bos"])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("transformers"),
        pytest.param("native"),
        pytest.param("vllm", marks=pytest.mark.vllm),
    ],
)
def test_a_backend_agrees(name, bos, expected, requests, without_bos, with_bos, tmp_path) -> None:
    source = find_checkpoints(with_bos if bos else without_bos)[0]
    options = LoadOptions(
        device="cpu", dtype="float32", max_length=WINDOW, bos="always" if bos else "never"
    )
    backend = loaded(Model(source, name, options))
    try:
        assert_agrees(scores_of(backend, requests, tmp_path), expected(bos))
    finally:
        release()


@pytest.mark.parametrize("bos", [False, True], ids=["no-bos", "bos"])
def test_plain_batches_agree(bos, expected, requests, without_bos, with_bos, tmp_path) -> None:
    source = find_checkpoints(with_bos if bos else without_bos)[0]
    options = LoadOptions(device="cpu", max_length=WINDOW, bos="always" if bos else "never")
    backend = loaded(Model(source, "transformers", options))
    backend.tree = False
    try:
        assert_agrees(scores_of(backend, requests, tmp_path), expected(bos))
    finally:
        release()


@pytest.mark.slow
@pytest.mark.parametrize("bos", [False, True], ids=["no-bos", "bos"])
def test_a_server_agrees(bos, expected, requests, without_bos, with_bos, tmp_path) -> None:
    folder = with_bos if bos else without_bos
    options = LoadOptions(max_length=WINDOW, bos="always" if bos else "never")
    with serve(Serving(folder)) as (url, _):
        backend = loaded(Model(find_checkpoints(url)[0], "server", options))
        try:
            assert_agrees(scores_of(backend, requests, tmp_path), expected(bos))
        finally:
            release()
