"""What cannot be asked of an executor is said in one sentence; how GPUs and threads are split."""

import sys
from typing import Any

import pytest

from olmeval.errors import UserError
from olmeval.executors.registry import make_executor
from olmeval.executors.resources import slots_on, split


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("locl",), r"unknown executor 'locl'; did you mean 'local'\?; there are process, local"),
        (("local", 0), "--workers 0: at least 1"),
        (("process", 2), "has one worker"),
    ],
)
def test_bad_requests(arguments: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        make_executor(*arguments)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("local", {"threads": 0}, "0 threads"),
        ("local", {"gpus_per_worker": 1.5}, "--gpus-per-worker 1.5: a whole number, or a fraction"),
        ("local", {"gpus_per_worker": -1.0}, "--gpus-per-worker -1"),
        ("local", {"gpus_per_worker": float("nan")}, "--gpus-per-worker nan"),
        ("local", {"gpus_per_worker": float("inf")}, "--gpus-per-worker inf"),
        ("local", {"address": "auto"}, "--ray-address is for --executor ray"),
        ("process", {"gpus_per_worker": 1.0}, "has one worker, with all GPUs"),
    ],
)
def test_bad_options(name: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        make_executor(name, **options)


def test_without_ray_the_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'olmeval\[ray\]'"):
        make_executor("ray")


@pytest.mark.parametrize(
    ("devices", "share", "workers"),
    [
        (4, 1, 4),
        (4, 2, 2),
        (3, 2, 1),
        (1, 2, 0),
        (1, 0.5, 2),
        (2, 0.3, 6),
        (2, 0.1, 20),
        (1, 0.6, 1),
    ],
)
def test_how_many_workers_fit(devices: int, share: float, workers: int) -> None:
    assert slots_on(devices, share) == workers


@pytest.mark.parametrize(
    ("names", "workers", "share", "expected"),
    [
        (["0", "1"], 2, 1.0, ["0", "1"]),
        (["4", "6", "7", "9"], 2, 2.0, ["4,6", "7,9"]),
        (["MIG-a", "MIG-b"], 3, 0.5, ["MIG-a", "MIG-a", "MIG-b"]),
        (["0"], 3, 0.0, ["", "", ""]),
    ],
)
def test_gpus_are_split(names: list[str], workers: int, share: float, expected: list[str]) -> None:
    assert split(names, workers, share) == expected


def test_too_few_gpus() -> None:
    with pytest.raises(UserError, match=r"3 workers with 0\.5 GPUs each do not fit on the 1 GPUs"):
        split(["0"], 3, 0.5)
