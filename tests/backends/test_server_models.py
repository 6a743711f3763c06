"""What a server says of itself, what is refused at the start, and who its model is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from olmeval.backends.base import LoadOptions
from olmeval.backends.checkpoints import find_checkpoints
from olmeval.backends.server import ServerBackend
from olmeval.errors import UserError
from tests.backends.completions_server import Serving, serve
from tests.backends.server_parts import backend_of, ll, plan_of, requests, scores
from tests.backends.straight import StraightLine
from tests.conftest import make_checkpoint

pytestmark = pytest.mark.usefixtures("quick_server")


def test_what_is_wrong_at_the_start_is_one_sentence(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(match: str, serving: Serving, options: LoadOptions | None = None, **extra) -> None:
        with pytest.raises(UserError, match=match), backend_of(serving, options, **extra):
            pass

    plain = {"id": "tiny"}
    root = {"id": "tiny", "root": str(checkpoint)}
    with pytest.raises(UserError, match=r"no completions server answers at .*ConnectError"):
        find_checkpoints("http://127.0.0.1:9/v1")
    with (
        serve(Serving(checkpoint)) as (url, _),
        pytest.raises(UserError, match=r"HTTP 404.*ends in /v1 as a rule"),
    ):
        find_checkpoints(url.removesuffix("/v1"))
    with pytest.raises(UserError, match="is written into results; put the key into OLMEVAL_API_"):
        find_checkpoints("http://user:secret@127.0.0.1:9/v1")
    fails("unknown key 'concurency'; did you mean 'concurrency'", Serving(checkpoint), concurency=3)
    fails("retries: Input should be greater", Serving(checkpoint), retries=-1)
    two = Serving(checkpoint, models=(root, {**root, "id": "other"}))
    fails(r"lists 2 models \('tiny', 'other'\); name one", two)
    fails("serves no 'tinny'; did you mean 'tiny'", two, model="tinny")
    fails("does not say where 'tiny' comes from", Serving(checkpoint, models=(plain,)))
    fails("does not say how long the window", Serving(checkpoint, models=(root,)))
    fails("--max-length 2047 does not fit", Serving(checkpoint), LoadOptions(max_length=2047))
    fails("--device and --dtype are the server's", Serving(checkpoint), LoadOptions(device="cpu"))
    fails("does not complete prompts of 'tiny'", Serving(checkpoint, fault=lambda *_: 400))
    fails("answers no more", Serving(checkpoint, fault=lambda *_: 500), retries=1)
    with pytest.raises(UserError) as error, backend_of(Serving(checkpoint, key="right")):
        pass
    assert "401" in str(error.value) and "OLMEVAL_API_KEY" in str(error.value)
    monkeypatch.setenv("OPENAI_API_KEY", "wrong-secret")
    fails(r"bad key in 'Bearer \*\*\*'", Serving(checkpoint, key="right"))
    monkeypatch.setenv("OLMEVAL_API_KEY", "right")
    with backend_of(Serving(checkpoint, key="right")) as backend:
        assert "right" not in str(backend.info)


def test_named_models_and_windows(checkpoint: Path) -> None:
    two = Serving(checkpoint, models=({"id": "org/tiny"}, {"id": "other"}))
    options = LoadOptions(tokenizer=str(checkpoint), max_length=128)
    with backend_of(two, options, model="org/tiny") as backend:
        assert backend.info.name.startswith("127.0.0.1-")
        assert backend.info.max_length == 128
        assert backend.info.params is None
        assert two.asked[-1]["model"] == "org/tiny"
        straight = StraightLine(checkpoint, 128)
        items = [ll("many words that fill the window " * 40, " end"), *requests()[:3]]
        plan = plan_of(backend, items)
        logprob, _ = scores(backend, plan)
        expected = [straight.score(r)[0] for r in items]
        assert np.abs(logprob[plan.unique_of] - expected).max() < 1e-4


def test_a_root_that_can_be_read_tells_name_step_and_size(
    tmp_path: Path, tokenizer_dir: Path
) -> None:
    from olmeval.backends.describe import count_parameters, load_model_config

    folder = make_checkpoint(tmp_path / "run" / "step30", tokenizer_dir)
    (folder / "checkpoint.json").write_text('{"run": "run", "tokens": 77}')
    with backend_of(Serving(folder)) as backend:
        assert backend.info.name == "run-step30"
        assert backend.info.metadata == {"run": "run", "tokens": 77, "step": 30}
        config = load_model_config(find_checkpoints(folder)[0])
        assert (backend.info.params, backend.info.params_total) == count_parameters(config)


def test_fingerprints_tell_models_apart(tmp_path: Path, tokenizer_dir: Path) -> None:
    def of(serving: Serving, **extra: object) -> str:
        options = LoadOptions(tokenizer=str(tokenizer_dir), max_length=64)
        with backend_of(serving, options, **extra) as backend:
            return backend.info.fingerprint

    folder = make_checkpoint(tmp_path / "model", tokenizer_dir)
    card = {"id": "tiny", "root": "/nowhere/tiny"}
    serving = Serving(folder, models=(card,))
    first = of(serving, revision=1)
    # With a revision the place does not count: every server here has another port.
    assert of(serving, revision="1", concurrency=2) == first
    assert of(serving, revision=2) != first
    assert of(replace(serving, models=({**card, "id": "other"},)), revision=1) != first
    assert of(replace(serving, models=({**card, "root": "/elsewhere"},)), revision=1) != first
    assert of(serving) != of(serving)
    with serve(serving) as (url, _):
        options = LoadOptions(tokenizer=str(tokenizer_dir), max_length=64)
        found = [ServerBackend.load(find_checkpoints(url)[0], options) for _ in range(2)]
        assert found[0].info.fingerprint == found[1].info.fingerprint
    # Other weights under the same name, in a folder that can be read: told apart by content.
    here = Serving(folder)
    before = of(here, revision=1)
    make_checkpoint(folder, tokenizer_dir, seed=1)
    assert of(here, revision=1) != before
