"""``olmeval gate``: stop a checkpoint that got worse."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from olmeval.cli.tables import number, print_grid

if TYPE_CHECKING:
    from olmeval.analysis.gate import GateReport
    from olmeval.results.run import Run

FILE = click.Path(path_type=Path)


@click.group(epilog="Example: olmeval gate check runs/nightly --baseline baseline.json")
def gate() -> None:
    """Regression gate: record a baseline, check a new checkpoint against it."""


@gate.command(
    epilog="""\b
Examples:
  olmeval gate record runs/good-step1000 -o baseline.json
  olmeval gate record runs/good-step{800,900,1000} --checkpoints runs/ -o baseline.json
"""
)
@click.argument("paths", nargs=-1, required=True, type=FILE)
@click.option("--output", "-o", type=FILE, default="baseline.json", show_default=True)
@click.option(
    "--checkpoints", multiple=True, type=FILE,
    help="Runs or tables with the model's earlier checkpoints: their noise is recorded.",
)  # fmt: skip
@click.option("--last", default=5, show_default=True, help="Checkpoints whose spread is noise.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def record(
    paths: tuple[Path, ...], output: Path, checkpoints: tuple[Path, ...], last: int, as_json: bool
) -> None:
    """Write a baseline: scores and answers, small enough to commit.

    PATHS is a run, or several checkpoints of one, which are averaged: a single lucky checkpoint
    makes every later one look worse.
    """
    from olmeval.analysis.gate_baseline import record as record_baseline
    from olmeval.results.run import find_runs, joined
    from olmeval.results.table import load_table

    table = load_table(checkpoints) if checkpoints else None
    *earlier, latest = joined(find_runs(paths))
    baseline = record_baseline(latest, output, table, last, earlier)
    noisy = sum(s.noise is not None for s in baseline.tasks.values())
    if as_json:
        import json

        counts = {"tasks": len(baseline.tasks), "with_noise": noisy}
        averaged = {"suites": len(baseline.suites), "checkpoints": 1 + len(earlier)}
        click.echo(json.dumps({"baseline": str(output), **counts, **averaged}, indent=2))
        return
    click.echo(
        f"{len(baseline.tasks)} tasks ({noisy} with checkpoint noise) and {len(baseline.suites)} "
        f"suites, mean of {1 + len(earlier)} checkpoints, in '{output}', "
        f"{output.stat().st_size / 1000:.1f} kB"
    )


@gate.command(
    epilog="""\b
Examples:
  olmeval gate check runs/nightly --baseline baseline.json --policy gate.yaml
  olmeval gate check runs/nightly --history history.jsonl --junit gate.xml --annotations
"""
)
@click.argument("run", type=FILE)
@click.option("--baseline", type=FILE, default="baseline.json", show_default=True)
@click.option("--policy", type=FILE, help="YAML; default: every task, no tolerance, 5 %.")
@click.option("--history", type=FILE, help="Past checks (JSON lines): adds this one, charts drift.")
@click.option("--junit", type=FILE, help="Write JUnit XML.")
@click.option("--markdown", type=FILE, help="Add a table to this file ($GITHUB_STEP_SUMMARY).")
@click.option("--output", "-o", type=FILE, help="Write everything as JSON.")
@click.option("--annotations", is_flag=True, help="Print GitHub annotations.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, no table.")
@click.pass_context
def check(
    context: click.Context,
    run: Path,
    baseline: Path,
    policy: Path | None,
    history: Path | None,
    junit: Path | None,
    markdown: Path | None,
    output: Path | None,
    annotations: bool,
    as_json: bool,
) -> None:
    """Compare RUN with a baseline. Exit code 0: not worse, 1: worse, 2: cannot tell."""
    from olmeval.analysis import gate_write
    from olmeval.analysis.gate import check as check_run
    from olmeval.analysis.gate_baseline import load_baseline
    from olmeval.analysis.gate_history import extended, load_history, save_history, with_drift
    from olmeval.analysis.gate_policy import load_policy
    from olmeval.files import write_json, write_text

    rules, now = load_policy(policy), _only_run(run)
    report = check_run(now, load_baseline(baseline), rules)
    if history is not None:
        entries = extended(load_history(history), report, now)
        report = with_drift(report, entries, rules.drift)
        save_history(history, entries)
    if as_json:
        import json

        click.echo(json.dumps(gate_write.as_json(report), indent=2))
    else:
        _print(report)
    if junit is not None:
        write_text(junit, gate_write.junit(report))
    if markdown is not None:
        # Other steps of a job write to the same summary.
        before = markdown.read_text(encoding="utf-8") if markdown.exists() else ""
        write_text(markdown, before + gate_write.markdown(report))
    if output is not None:
        write_json(output, gate_write.as_json(report))
    if annotations:
        for line in gate_write.annotations(report):
            click.echo(line, err=as_json)
    context.exit(report.exit_code)


def _only_run(path: Path) -> "Run":
    """The run at ``path``, or the only one in it."""
    from olmeval.errors import UserError
    from olmeval.results.run import find_runs, joined

    runs = joined(find_runs([path]))
    if len(runs) > 1:
        raise UserError(f"'{path}' holds {len(runs)} runs, such as '{runs[-1].path}'; give one")
    return runs[0]


def _print(report: "GateReport") -> None:
    rows = [
        (
            f.verdict, f.name, f.reason, number(f.baseline, 4), number(f.value, 4),
            "—" if f.drop != f.drop else f"{f.drop:+.4f}", number(f.stderr),
            number(f.detectable), "—" if f.p != f.p else f"{f.p:.2g}", str(f.n),
        )
        for f in sorted(report.findings, key=lambda f: f.verdict == "ok")
    ]  # fmt: skip
    heads = ["verdict", "task", "why", "baseline", "now", "worse by", "±", "detectable", "p", "n"]
    print_grid(heads, rows, 3)
    without = sum(not f.noise_known for f in report.findings if f.value == f.value)
    if without:
        click.echo(
            f"{without} scores without checkpoint noise: their error is that of the questions alone"
        )
    click.echo(f"{report.run} against {report.baseline}: {report.summary}")
