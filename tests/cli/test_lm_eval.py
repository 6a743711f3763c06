"""Command lines of lm-evaluation-harness: what ``--model`` and ``--model_args`` mean there."""

import shlex
from dataclasses import asdict
from typing import Any

import pytest
from click.testing import CliRunner

from olmeval.cli.lm_eval import translated
from olmeval.cli.run import run
from olmeval.engine import evaluate
from olmeval.errors import UserError


class Asked(Exception):
    """What the command would evaluate."""


def asked(line: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `olmeval run` hands to the engine for a command line."""

    def stop(models: Any, specs: Any, *, settings: Any, **_: Any) -> None:
        raise Asked({"models": list(models), "specs": list(specs), **asdict(settings)})

    monkeypatch.setattr(evaluate, "evaluate_many", stop)
    result = CliRunner().invoke(run, shlex.split(line))
    if isinstance(result.exception, Asked):
        told: dict[str, Any] = result.exception.args[0]
        return told
    assert result.exception is not None, result.output
    raise result.exception


def test_a_line_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    told = asked(
        "--model hf --model_args pretrained=ckpt/step10,dtype=float32,add_bos_token=True"
        " --tasks arc_easy,hellaswag --num_fewshot 5 --batch_size auto:4 --output_path out",
        monkeypatch,
    )
    assert told["models"] == ["ckpt/step10"] and told["backend"] == "transformers"
    assert told["dtype"] == "float32" and told["bos"] == "always" and told["batch_size"] == 0
    assert told["specs"] == ["arc_easy:5shot", "hellaswag:5shot"]


def test_vllm_and_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "--model vllm -a pretrained=org/m,tensor_parallel_size=4,max_model_len=4096 -t arc_easy"
    told = asked(line, monkeypatch)
    assert told["models"] == ["org/m"] and told["backend"] == "vllm"
    assert told["backend_args"] == {"tensor_parallel_size": 4} and told["max_length"] == 4096
    line = "--model local-completions -a base_url=http://h:1/v1/completions,model=m -t arc_easy"
    told = asked(line, monkeypatch)
    assert told["models"] == ["http://h:1/v1"] and told["backend_args"] == {"model": "m"}


@pytest.mark.parametrize(
    ("model", "args", "message"),
    [
        ("ckpt", {"pretrained": "x"}, "not with 'ckpt'"),
        ("hf", {"dtype": "float32"}, "need pretrained=DIR_OR_ID"),
        ("local-completions", {"model": "m"}, "need base_url=URL"),
        ("hf", {"pretrained": "x", "dtyp": "f"}, "dtyp: .*did you mean 'dtype'"),
        ("hf", {"pretrained": "x", "trust_remote_code": True}, "trust_remote_code: no option"),
    ],
)
def test_what_has_no_counterpart_is_said(model: str, args: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        translated([model], args)
