"""Command lines of lm-evaluation-harness: what ``--model`` and ``--model_args`` mean there."""

import re
import shlex
from dataclasses import asdict
from typing import Any

import pytest
from click.testing import CliRunner

from olmeval.cli.lm_eval import GRANTED, INSTEAD, translated
from olmeval.cli.run import run
from olmeval.engine import evaluate
from olmeval.errors import UserError
from tests.docs.test_pages_true import mistakes


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
        ("hf", {"pretrained": "x", "trust_remote_code": True}, "trust_remote_code is no option"),
        ("hf", {"pretrained": "x", "revision": "main"}, "hf download ORG/NAME --revision"),
    ],
)
def test_what_has_no_counterpart_is_said(model: str, args: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        translated([model], args)


def test_a_wish_that_is_granted_anyway_is_said_and_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = "-M hf -a pretrained=ckpt -t arc_easy --log_samples --confirm_run_unsafe_code"
    told = asked(line, monkeypatch)
    assert told["models"] == ["ckpt"] and told["specs"] == ["arc_easy"]
    result = CliRunner().invoke(run, shlex.split("-m nowhere -t arc_easy --log_samples"))
    assert "--log_samples: every answer is kept" in result.stderr
    assert "log_samples" not in result.stdout


@pytest.mark.parametrize("flag", sorted(INSTEAD))
def test_a_flag_without_counterpart_names_what_to_use(
    flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As it is typed there, with underscores, and with a value behind it.
    for typed in (flag, flag.replace("-", "_").replace("__", "--")):
        with pytest.raises(UserError, match=f"^{flag} is no option here: "):
            asked(f"-m ckpt -t arc_easy {typed if flag[1] == '-' else flag} 1", monkeypatch)


def test_what_is_said_to_use_exists() -> None:
    ours = {name for param in run.params for name in param.opts}
    assert not (set(INSTEAD) | set(GRANTED)) & ours
    for sentence in INSTEAD.values():
        for words in re.findall(r"`(olmeval [a-z -]+)", sentence):
            assert mistakes(shlex.split(words)) == [], sentence
        for flag in re.findall(r"(?<![\w-])(--[a-z-]+)", re.sub(r"`[^`]*`", "", sentence)):
            if "hf download" not in sentence:
                assert flag in ours | {"--debug"}, sentence


def test_model_args_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    line = """--model hf --model_args '{"pretrained": "ckpt", "add_bos_token": true}' -t arc_easy"""
    told = asked(line, monkeypatch)
    assert told["models"] == ["ckpt"] and told["bos"] == "always"
    with pytest.raises(UserError, match="is the checkpoint itself, use options such as --dtype"):
        asked("""-m ckpt --model-args '{"dtype": "bfloat16"}' -t arc_easy""", monkeypatch)
    with pytest.raises(UserError, match="is not valid JSON"):
        asked("""-m hf --model-args '{"dtype": bfloat16}' -t arc_easy""", monkeypatch)
