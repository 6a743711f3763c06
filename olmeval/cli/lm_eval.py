"""Command lines of lm-evaluation-harness and OLMES, as options of ours.

What a flag there asks for is done, or a sentence says what to use instead: who comes with a script
that works must not be left with "no such option".
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from olmeval.cli.options import GreedyCommand
from olmeval.errors import UserError, nearest

BACKENDS = {
    "hf": "transformers",
    "hf-auto": "transformers",
    "huggingface": "transformers",
    "vllm": "vllm",
    "local-completions": "server",
}
# Keys there, and what they set here; of "add_bos_token" the value is translated, too.
KEYS = {
    "dtype": "dtype",
    "tokenizer": "tokenizer",
    "device": "device",
    "max_length": "max_length",
    "max_model_len": "max_length",
    "add_bos_token": "bos",
}
# Keys there that have no counterpart, and what to do.
KEYS_INSTEAD = {
    "trust_remote_code": "no code of a checkpoint is run here; serve the model, and give the "
    "server's URL as --model",
    "revision": "download that revision (hf download ORG/NAME --revision REV --local-dir DIR), and "
    "give the folder as --model",
    "peft": "merge the adapter into the model, save it, and give that folder as --model",
    "parallelize": "for a model larger than one GPU use --backend vllm --backend-args "
    "tensor_parallel_size=N",
    "batch_size": "use --batch-size",
}

# Flags there whose wish is granted anyway: they are dropped, and a line says so.
GRANTED = {
    "--log-samples": "every answer is kept in the run folder, always",
    "--save-raw-requests": "every request is kept in the run folder, always",
    "-s": "every answer is kept in the run folder, always",
    "--check-integrity": "a task file is checked whenever it is read",
    "--confirm-run-unsafe-code": "programs run in a sandbox, or not at all",
}
_CHAT = "a chat template changes what the tasks ask; prompts here are those of base models"
_TRACKER = "when the run is done, use `olmeval export --format wandb` (also tensorboard)"
_STORED = "answers are always stored and used again; --store DIR names another place"
_WRITTEN = "use `olmeval tasks preview SPEC`, which prints a prompt with its token borders"
_DRY = (
    "use --dry-run to look at requests; a run stores its answers, and the same command scores them"
)
_SEED = "nothing to seed: shots have the seed of their standard, each sample that of its question"
# Flags there without a counterpart, and what to use.
INSTEAD = {
    "--apply-chat-template": _CHAT,
    "--use-chat-format": _CHAT,
    "--fewshot-as-multiturn": _CHAT,
    "--system-instruction": _CHAT,
    "--gen-kwargs": "sampling belongs to a task: --max-new-tokens N lowers its limit, a variant "
    "such as gsm8k:n8 draws samples, and `sampling` in a task file sets the rest",
    "--trust-remote-code": KEYS_INSTEAD["trust_remote_code"],
    "--revision": KEYS_INSTEAD["revision"],
    "--use-cache": _STORED,
    "-c": _STORED,
    "--cache-requests": _STORED,
    "--cached-output-dir": _STORED,
    "--write-out": _WRITTEN,
    "-w": _WRITTEN,
    "--inspect": _WRITTEN,
    "--num-recorded-inputs": _WRITTEN,
    "--show-config": "use `olmeval tasks show SPEC`",
    "--list-tasks": "use `olmeval tasks list`",
    "--list-task-suites": "use `olmeval tasks list`",
    "--vllm-for-mc": "use --backend vllm, which asks all letters of a question at once",
    "--predict-only": _DRY,
    "-x": _DRY,
    "--recompute-metrics": "leave it out: the same command scores the stored answers anew",
    "--seed": _SEED,
    "--random-subsample-seed": _SEED,
    "--samples": "--limit N takes a sample; for a choice of your own write a task file over it",
    "-E": "--limit N takes a sample; for a choice of your own write a task file over it",
    "--split": "name the split in the spec, such as arc_easy:rc:val",
    "--task-args": "say it in the spec, such as arc_easy:rc:val:5shot, or in a task file",
    "--max-batch-size": "use --batch-size N, or --row-tokens N",
    "--verbosity": "leave it out; --debug shows the traceback of an error",
    "-v": "leave it out; --debug shows the traceback of an error",
    "--metadata": "say it in the spec or in a task file",
    "--config": "write the options into olmeval.toml, under [run]",
    "-C": "write the options into olmeval.toml, under [run]",
    "--gpus": "use --executor local --gpus-per-worker N",
    "--num-workers": "use --executor local --workers N",
    "--remote-output-dir": "copy the run folder when the run is done",
    "--gsheet": "use `olmeval results RUNS --csv FILE`",
    "--wandb-args": _TRACKER,
    "--wandb-config-args": _TRACKER,
    "--wandb-run-path": _TRACKER,
    "--trackio-args": _TRACKER,
    "--hf-hub-log-args": "use `olmeval export --format model-card`",
    "--hf-save-dir": "use `olmeval export --format model-card`",
}


def _spread(flag: str, text: str) -> list[str]:
    """``--model-args '{"dtype": "float32"}'``, which both tools take, as ``KEY=VALUE`` of ours."""
    try:
        given = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{flag} '{text}' is not valid JSON: {error}") from None
    pairs = [f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in given.items()]
    return [word for pair in pairs for word in (flag, pair)]


class ForeignCommand(GreedyCommand):
    """A command that also takes the flags of other tools, or says what to use instead."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        kept: list[str] = []
        for arg in args:
            if arg.startswith("{") and kept and kept[-1] in ("-a", "--model_args", "--model-args"):
                kept += _spread(kept.pop(), arg)
                continue
            why = GRANTED.get(self._ours(arg) if arg.startswith("--") else arg)
            if why is None:
                kept.append("--model" if arg == "-M" else arg)
            elif not ctx.resilient_parsing:
                click.echo(f"{arg}: {why}", err=True)
        try:
            return super().parse_args(ctx, kept)
        except click.NoSuchOption as error:
            flag = error.option_name
            if flag in INSTEAD:
                raise UserError(f"{flag} is no option here: {INSTEAD[flag]}") from None
            raise


def translated(models: Sequence[str], args: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The model and the settings that ``--model`` and ``--model-args`` mean there.

    What is left over goes to vLLM and to servers as backend arguments. Raises :class:`UserError`
    for a model type or key that has no counterpart here.
    """
    kind = models[0] if len(models) == 1 else ", ".join(models)
    if kind not in BACKENDS:
        raise UserError(
            f"--model-args go with --model {', '.join(BACKENDS)}, not with '{kind}'; where --model "
            "is the checkpoint itself, use options such as --dtype, or --backend-args KEY=VALUE"
        )
    rest = dict(args)
    model = rest.pop("pretrained", None) or rest.pop("base_url", None)
    if model is None:
        named = "base_url=URL" if kind == "local-completions" else "pretrained=DIR_OR_ID"
        raise UserError(f"--model-args of '{kind}' need {named}")
    settings: dict[str, Any] = {"backend": BACKENDS[kind]}
    for key in [key for key in rest if key in KEYS]:
        value = rest.pop(key)
        settings[KEYS[key]] = ("always" if value else "never") if key == "add_bos_token" else value
    if rest and BACKENDS[kind] == "transformers":
        key = next(iter(rest))
        if key in KEYS_INSTEAD:
            raise UserError(f"--model-args {key} is no option here: {KEYS_INSTEAD[key]}")
        known = ["pretrained", *KEYS]
        raise UserError(f"--model-args {key}: no option here is like it{nearest(key, known)}")
    # A server is named by its base, not by the address of one of its services.
    model = str(model).removesuffix("/").removesuffix("/completions")
    return model, {**settings, "backend_args": rest}
