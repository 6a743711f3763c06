"""``olmeval run``: evaluate checkpoints on tasks."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from olmeval.cli.completion import complete_tasks
from olmeval.cli.lm_eval import ForeignCommand, translated
from olmeval.cli.options import (
    batch_size,
    parse_limit,
    parse_pairs,
    placement,
    with_shots,
)

if TYPE_CHECKING:
    from olmeval.backends.tokenization import Bos

EPILOG = """\b
Examples:
  olmeval run --model checkpoints/my-run --tasks arc_easy:rc:5shot basic_skills
  olmeval run --model allenai/OLMo-2-0425-1B --tasks hellaswag:rc --limit 200
  olmeval run --model checkpoints/my-run --tasks core_9mcqa::olmes --dry-run
"""


# What lm-evaluation-harness and OLMES call options of ours.
KNOWN_AS = {
    "--output-path": "--output",
    "--output-dir": "--output",
    "--task": "--tasks",
    "--num-shots": "--num-fewshot",
    "--include-path": "--task-path",
    "--model-type": "--backend",
}


@click.command(cls=ForeignCommand, epilog=EPILOG, known_as=KNOWN_AS)
@click.option(
    "--model",
    "-m",
    "models",
    multiple=True,
    required=True,
    metavar="DIR_OR_ID...",
    help="Checkpoint folder, folder of step* folders, hub id, or a server's URL.",
)
@click.option(
    "--tasks",
    "-t",
    multiple=True,
    required=True,
    metavar="SPEC...",
    shell_complete=complete_tasks,
    help="Task specs, e.g. arc_easy:rc:5shot; see `olmeval tasks list`.",
)
@click.option(
    "--output",
    "-o",
    default="runs",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for the run folders, one per checkpoint.",
)
@click.option(
    "--model-args",
    "-a",
    multiple=True,
    metavar="KEY=VALUE...",
    help="As in lm-evaluation-harness: --model hf --model-args pretrained=DIR,dtype=float32.",
)
@click.option("--limit", "-L", metavar="N|FRACTION", help="Documents per task, sampled.")
@click.option(
    "--num-fewshot",
    "-f",
    type=click.IntRange(min=0),
    metavar="N",
    help="Examples in the prompt of every task, as :Nshot in a spec.",
)
@click.option(
    "--backend", help="transformers, vllm, native or server; default: transformers, a URL: server."
)
@click.option(
    "--backend-args", multiple=True, metavar="KEY=VALUE...", help="What this backend alone knows."
)
@click.option("--device", help="cpu, cuda, cuda:1 …; default: a GPU when there is one.")
@click.option(
    "--dtype", default="auto", show_default=True, help="float32, bfloat16, float16, auto."
)
@click.option("--tokenizer", metavar="DIR_OR_ID", help="Tokenizer other than the model's own.")
@click.option(
    "--bos",
    type=click.Choice(["standard", "always", "never"]),
    default="standard",
    show_default=True,
    help="standard: BOS for Gemma only, as in OLMES.",
)
@click.option(
    "--max-length",
    type=click.IntRange(min=8),
    help="Window in tokens; default: the model's, at most 2048 as in OLMES.",
)
@click.option(
    "--batch-size",
    "-b",
    "sequences",
    type=batch_size,
    metavar="N|auto",
    default="auto",
    help="Sequences a forward pass; default: as many as fit the token budget.",
)
@click.option("--row-tokens", type=click.IntRange(min=1), help="Token budget of a forward pass.")
@click.option(
    "--window-overlap",
    type=click.IntRange(min=0),
    default=0,
    help="Tokens that a document's next window sees again as context.",
)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(min=1),
    help="Lower every generation's own limit to this.",
)
@click.option(
    "--task-path",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Folder with further task files.",
)
@placement("Here, on workers of this machine, or on a Ray cluster.", default="process")
@click.option(
    "--store",
    envvar="OLMEVAL_STORE",
    type=click.Path(path_type=Path, file_okay=False),
    help="Answers shared by all runs; default: $OLMEVAL_STORE, else in the cache folder.",
)
@click.option("--dry-run", is_flag=True, help="Count requests and tokens, estimate the time, stop.")
@click.option("--allow-errors", is_flag=True, help="Accept instances that could not be scored.")
@click.option(
    "--program-env",
    metavar="DIR",
    help="Virtual environment that programs of HumanEval, MBPP, LBPP … may import from.",
)
@click.option(
    "--unsafe-local",
    is_flag=True,
    help="Run programs that a model writes even where nothing here can contain them.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the long table as JSON.")
def run(
    models: tuple[str, ...],
    model_args: tuple[str, ...],
    tasks: tuple[str, ...],
    output: Path,
    limit: str | None,
    num_fewshot: int | None,
    backend: str | None,
    backend_args: tuple[str, ...],
    device: str | None,
    dtype: str,
    tokenizer: str | None,
    bos: "Bos",
    max_length: int | None,
    sequences: int,
    row_tokens: int | None,
    window_overlap: int,
    max_new_tokens: int | None,
    task_path: tuple[Path, ...],
    executor: str,
    workers: int | None,
    gpus_per_worker: float | None,
    ray_address: str | None,
    store: Path | None,
    dry_run: bool,
    allow_errors: bool,
    program_env: str | None,
    unsafe_local: bool,
    as_json: bool,
) -> None:
    """Evaluate one checkpoint or many on tasks.

    A run that was interrupted, even killed, continues when the same command is given again. Other
    tasks, or another limit, of the same checkpoint go to OUTPUT/NAME-2 and so on.
    """
    from olmeval.cli.dry_run import print_dry_run
    from olmeval.cli.results import print_table
    from olmeval.engine.evaluate import evaluate_many, plan_run
    from olmeval.engine.settings import Execution, Settings
    from olmeval.results.run import long_table, records

    settings = Settings(
        backend=backend,
        backend_args=parse_pairs("--backend-args", backend_args),
        device=device,
        dtype=dtype,
        tokenizer=tokenizer,
        bos=bos,
        max_length=max_length,
        batch_size=sequences,
        row_tokens=row_tokens,
        window_overlap=window_overlap,
        max_new_tokens=max_new_tokens,
        program_env=program_env,
        unsafe_local=unsafe_local,
    )
    if model_args:
        model, given = translated(models, parse_pairs("--model-args", model_args))
        given["backend_args"] |= settings.backend_args
        models, settings = (model,), replace(settings, **given)
    specs = with_shots(tasks, num_fewshot, task_path)
    if dry_run:
        plan = plan_run(
            models, specs, limit=parse_limit(limit), settings=settings, task_paths=task_path
        )
        if as_json:
            click.echo(json.dumps(plan.to_json(), indent=2))
        else:
            print_dry_run(plan)
        return
    try:
        runs = evaluate_many(
            models,
            specs,
            output=output,
            limit=parse_limit(limit),
            settings=settings,
            execution=Execution(executor, workers, gpus_per_worker, ray_address),
            store=store,
            task_paths=task_path,
            allow_errors=allow_errors,
            progress=True,
        )
    except KeyboardInterrupt:
        click.echo("interrupted; the same command continues from here", err=True)
        sys.exit(130)
    if as_json:
        rows = [{**row, "folder": str(one.path)} for one in runs for row in records(one.table())]
        click.echo(json.dumps(rows, indent=2))
    else:
        print_table(long_table(runs), runs)
