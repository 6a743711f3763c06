"""The server backend against vLLM's own server."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from olmeval.backends.base import LoadOptions
from olmeval.backends.checkpoints import find_checkpoints
from olmeval.backends.server import ServerBackend
from olmeval.requests import Sampling
from tests.backends.server_parts import WINDOW, plan_of, prompts, requests, scores
from tests.backends.straight import StraightLine
from tests.conftest import make_checkpoint

pytestmark = pytest.mark.usefixtures("quick_server")


@pytest.fixture(scope="module")
def wider(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    """A checkpoint with heads of a size that vLLM has kernels for."""
    return make_checkpoint(tmp_path_factory.mktemp("wider") / "tiny", tokenizer_dir, hidden_size=64)


@pytest.fixture(scope="module")
def vllm_url(wider: Path) -> Iterator[str]:
    """vLLM's own server with a tiny checkpoint."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(wider),
        "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port), "--dtype",
        "float32", "--max-model-len", "2048", "--max-num-seqs", "16",
    ]  # fmt: skip
    env = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    process = subprocess.Popen(command, env=env, start_new_session=True)
    url = f"http://127.0.0.1:{port}/v1"
    try:
        for _ in range(600):
            assert process.poll() is None, "the server ended"
            try:
                urllib.request.urlopen(f"{url}/models", timeout=2).close()
                break
            except OSError:
                time.sleep(1)
        yield url
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.vllm
def test_vllms_server_equals_the_straight_line(vllm_url: str, wider: Path) -> None:
    straight = StraightLine(wider, WINDOW)
    want = [straight.score(r) for r in requests()]
    backend = ServerBackend.load(find_checkpoints(vllm_url)[0], LoadOptions())
    settings = backend.info.settings
    assert (settings["scoring"], settings["prompts"]) == ("prompt_logprobs", "ids")
    assert settings["one_token_groups"]
    assert len(settings["neutral_sampling"]) == 7
    plan = plan_of(backend, requests())
    for offers in (
        backend.completions.offers,
        replace(backend.completions.offers, next_tokens=0),
        replace(backend.completions.offers, next_tokens=0, scoring="echo"),
    ):
        backend.completions.offers = offers
        logprob, greedy = scores(backend, plan)
        assert np.abs(logprob[plan.unique_of] - [w[0] for w in want]).max() < 1e-4
        assert greedy[plan.unique_of].tolist() == [w[1] for w in want]


@pytest.mark.vllm
def test_vllms_server_generates(vllm_url: str, wider: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(wider)
    backend = ServerBackend.load(find_checkpoints(vllm_url)[0], LoadOptions())
    items = prompts(backend, Sampling(max_tokens=24))
    got = dict(backend.generate(items))
    for k, prompt in enumerate(items):
        ids = model.generate(torch.tensor([prompt.ids]), max_new_tokens=24, do_sample=False)
        ids = ids[0, len(prompt.ids) :].tolist()
        text = backend.tokenizer.decode([i for i in ids if i != 0])
        # vLLM leaves out the beginning of a character at the end of the text.
        assert got[k][0].text.rstrip("�") == text.rstrip("�")
        assert got[k][0].n_tokens == len(ids)
    text = got[0][0].text
    stop = ("\x00a", "\x00b", "\x00c", "\x00d", text[len(text) // 2 :][:3])
    (cut,) = dict(backend.generate(prompts(backend, Sampling(max_tokens=24, stop=stop), 1)))[0]
    assert cut.text == text[: text.find(stop[-1])] and cut.finish == "stop"
    drawn = prompts(backend, Sampling(max_tokens=8, temperature=1.0, n=3))
    samples = dict(backend.generate(drawn))
    assert {len(v) for v in samples.values()} == {3}
    assert len({s.text for v in samples.values() for s in v}) > len(drawn)
    assert dict(backend.generate(drawn[2:3]))[0] == samples[2]
