"""Hooks of `mkdocs build`: the reference pages, made from the code whenever the site is built.

Nothing of it is committed, so nothing of it can be outdated: commands come from click, tasks and
suites from the catalogue, the Python pages from docstrings. Links to files outside `docs/` lead to
copies in the site.
"""

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
ELSEWHERE = re.compile(
    r'<(?:script|img|iframe)[^>]*src="(?:https?:)?//|<link[^>]*stylesheet[^>]*//'
)
ROLE = re.compile(r":(?:class|func|meth|data|mod|attr):(?=<)")
OUTSIDE = re.compile(r"\]\(((?:\.\./)+)([\w./-]+)\)")

# What a Python user calls, by what it is for. A name that does not exist fails the build.
API = {
    "Evaluate": [
        "engine.evaluate.evaluate", "engine.evaluate.evaluate_many", "engine.evaluate.plan_run",
        "engine.settings.Settings", "engine.settings.Execution", "results.run.Run",
        "results.run.find_runs", "results.table.load_table", "results.table.query_table",
    ],
    "Tasks": [
        "tasks.registry.load_task", "tasks.registry.Task", "tasks.describe.list_tasks",
        "tasks.describe.describe", "tasks.suites.load_suites", "tasks.preview.preview",
        "tasks.authoring.new_task", "tasks.authoring.validate",
    ],
    "Decide": [
        "analysis.compare.compare_runs", "analysis.compare.flipped", "analysis.snr.snr_table",
        "analysis.snr.SnrSettings", "analysis.decisions.decision_table",
        "analysis.decisions.DecisionSettings", "analysis.interventions.choose_metrics",
        "analysis.interventions.choose_subtasks", "analysis.interventions.average_checkpoints",
        "analysis.gate_baseline.record", "analysis.gate.check", "reports.report.write_report",
    ],
    "Predict": [
        "ladders.predict.open_ladder", "ladders.predict.fit_forecast", "ladders.predict.predict",
        "ladders.predict.scales", "ladders.forecast.LadderForecast", "ladders.forecast.Prediction",
        "reports.ladder.write_ladder_report",
    ],
    "Mix": [
        "mixing.domains.load_domains", "mixing.swarm.design_swarm", "mixing.launch.launch",
        "mixing.launch.collect", "mixing.fitting.fit_swarm", "mixing.fitting.MixtureFit",
        "mixing.proposal.propose", "mixing.proposal.Proposal", "mixing.reuse.plan_reuse",
        "reports.mixing.write_mixing_report",
    ],
    "Train": [
        "trainer.recipe.load_recipe", "trainer.loop.train", "trainer.loop.TrainResult",
        "trainer.swarm.run_swarm", "trainer.build.build_data", "trainer.corpus.build_demo_corpus",
    ],
    "Run programs, run elsewhere": [
        "sandbox.run.run_jobs", "sandbox.types.Job", "sandbox.types.Limits",
        "sandbox.types.Outcome", "sandbox.tiers.probe", "executors.registry.make_executor",
        "executors.base.Executor", "engine.doctor.examine",
    ],
    "Statistics": [
        "stats.mean.mean", "stats.mean.Estimate", "stats.mean.paired_difference",
        "stats.paired.mcnemar", "stats.paired.sign_flip", "stats.paired.holm",
    ],
}  # fmt: skip


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that are made here."""
    made = {
        "reference/commands.md": commands_page(),
        "reference/tasks.md": tasks_page(),
        "reference/python.md": python_page(),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
    }
    for page in files.documentation_pages():
        for target in OUTSIDE.findall(page.content_string):
            path = ROOT / target[1]
            if path.is_file():
                made[f"source/{target[1]}.txt"] = path.read_text(encoding="utf-8")
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Sends links to files outside `docs/` to their copies."""

    def copied(match: re.Match[str]) -> str:
        up = "../" * page.file.src_uri.count("/")
        return f"]({up}source/{match[2]}.txt)" if (ROOT / match[2]).is_file() else match[0]

    return OUTSIDE.sub(copied, markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Docstrings name what they mean as ``:class:`Run```; a reader needs the name alone."""
    return ROLE.sub("", content)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Fails the build if a page would load anything from elsewhere."""
    if found := ELSEWHERE.search(output):
        raise PluginError(f"{page.file.src_uri} loads from elsewhere: {found[0]}")
    return output


def leaves(
    command: click.Command, name: str, parent: click.Context | None = None
) -> Iterator[tuple[click.Command, click.Context]]:
    """Every command below ``command`` that is no group, with its context."""
    ctx = click.Context(command, info_name=name, parent=parent)
    if not isinstance(command, click.Group):
        yield command, ctx
        return
    for child in command.list_commands(ctx):
        found = command.get_command(ctx, child)
        assert found is not None
        yield from leaves(found, child, ctx)


def commands_page() -> str:
    """One section a command: what it does, its options, an example."""
    from olmeval.cli.main import cli
    from olmeval.cli.olmix import cli as olmix

    lines = [
        "# Commands",
        "",
        "Made from the commands themselves. What all of them share (defaults file, exit codes, "
        "colours, completion): [the command line](../cli.md).",
    ]
    for group, name in ((cli, "olmeval"), (olmix, "olmix")):
        lines += ["", f"## {name}", "", group.help or ""]
        for command, ctx in leaves(group, name):
            lines += ["", f"### {ctx.command_path}", "", *_described(command, ctx)]
    return "\n".join(lines) + "\n"


def _described(command: click.Command, ctx: click.Context) -> Iterator[str]:
    usage = " ".join(command.collect_usage_pieces(ctx))
    yield from ("```text", f"{ctx.command_path} {usage}", "```", "")
    for paragraph in (command.help or "").split("\n\n"):
        # Click keeps the lines of a paragraph that begins so.
        if paragraph.startswith("\b"):
            yield from ("```text", paragraph.removeprefix("\b").strip("\n"), "```", "")
        else:
            yield _escaped(" ".join(paragraph.split())) + "\n"
    rows = [
        r for p in command.params if isinstance(p, click.Option) and (r := p.get_help_record(ctx))
    ]
    yield from ("| option | |", "|-|-|")
    for names, help_ in rows:
        names = names.replace("|", "\\|")
        yield f"| `{names}` | {_escaped(help_)} |"
    text = (command.epilog or "").replace("\b", "").strip()
    text = re.sub(r"^Examples?:\s*", "", text)
    text = re.sub(r"^  ", "", text, flags=re.MULTILINE)
    yield from ("", "```bash", text.replace("; olm", "\nolm"), "```")


def _escaped(text: str) -> str:
    """Text as it is, also in a cell of a table."""
    shown = html.escape(text, quote=False).replace("|", "&#124;")
    return shown.replace("*", r"\*").replace("_", r"\_")


def tasks_page() -> str:
    """Every task and suite of the catalogue."""
    from olmeval.tasks.describe import list_tasks
    from olmeval.tasks.suites import load_suites

    lines = [
        "# Tasks and suites",
        "",
        "Made from the catalogue. A spec is `family[:format][:variant…][:Nshot]` "
        "([tasks](../tasks.md)); `olmeval tasks show SPEC` says everything about one. ● needs no "
        "hub: its data comes with `olmeval data pull olmes`.",
        "",
        "## Tasks",
        "",
        "| task | formats | primary metric | | what |",
        "|-|-|-|-|-|",
    ]
    for row in list_tasks():
        formats = ", ".join(row["formats"])
        dot = "●" if row["offline"] else ""
        what = _escaped(str(row["summary"]))
        lines.append(f"| `{row['task']}` | {formats} | {row['primary_metric']} | {dot} | {what} |")
    lines += ["", "## Suites", "", "| suite | tasks | mean | what |", "|-|-:|-|-|"]
    for suite in load_suites().values():
        what = _escaped(suite.summary)
        lines.append(f"| `{suite.name}` | {len(suite.tasks)} | {suite.aggregate} | {what} |")
    return "\n".join(lines) + "\n"


def python_page() -> str:
    """The functions and classes behind the commands, from their docstrings."""
    lines = [
        "# Python",
        "",
        "Made from docstrings. Every command is one function with typed arguments and a typed "
        "result; `olmeval.evaluate` and `olmeval.Run` are at the top of the package.",
    ]
    for chapter, names in API.items():
        lines += ["", f"## {chapter}", ""]
        for name in names:
            lines += [f"::: olmeval.{name}", ""]
    return "\n".join(lines) + "\n"
