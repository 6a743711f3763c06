"""``olmeval decisions``: do small runs rank models as large runs do?"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from olmeval.cli.tables import interval, number, print_grid, print_or_write, table_options

if TYPE_CHECKING:
    import pandas as pd

EPILOG = """\b
Examples:
  olmeval decisions regmix.parquet --target 6e7
  olmeval decisions runs/ --target-metric acc_per_char --metric acc_per_char --metric bits_per_byte
  olmeval decisions scores.csv --map map.yaml --size model --target 1B --seeds mean --curve
"""


@click.command(epilog=EPILOG)
@table_options
@click.option("--key", default="mix", show_default=True, help="Column that names a model.")
@click.option("--size", default="params", show_default=True, help="Column of the sizes.")
@click.option("--target", help="The size that decides; default: the largest.")
@click.option("--target-metric", help="What the target is ranked by; default: the proxy's own.")
@click.option(
    "--seeds",
    type=click.Choice(["each", "mean"]),
    default="each",
    show_default=True,
    help="Small runs rank seed by seed, or by their mean.",
)
@click.option("--last", default=1, show_default=True, help="Checkpoints averaged.")
@click.option("--curve", is_flag=True, help="Every step that all small runs have.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON records.")
@click.option("--csv", type=click.Path(path_type=Path), help="Write all columns as CSV.")
def decisions(
    paths: tuple[Path, ...],
    mapping: Path | None,
    where: str | None,
    tasks: tuple[str, ...],
    metrics: tuple[str, ...],
    target_metric: str | None,
    as_json: bool,
    csv: Path | None,
    **settings: Any,
) -> None:
    """Share of pairs of models that a small size orders as the target does, ties one half.

    PATHS default to runs/. Intervals (95 %) are over models with all their seeds. With
    --target-metric, "gain" is the accuracy above that of the target's metric itself as proxy.
    """
    from olmeval.analysis.decisions import DecisionSettings, decision_table
    from olmeval.analysis.grid import choose
    from olmeval.results.table import load_table

    loaded = load_table(paths or (Path("runs"),), mapping)
    wanted = (*metrics, *((target_metric,) if target_metric else ()))
    found = decision_table(
        choose(loaded, where, tasks, wanted),
        DecisionSettings(target_metric=target_metric, proxies=metrics, **settings),
    )
    print_or_write(found, as_json, csv, _print)


def _print(found: "pd.DataFrame") -> None:
    steps, gains = found["step"].notna().any(), found["gain"].notna().any()
    heads = [
        "size",
        "task",
        "proxy",
        "models",
        "decision accuracy",
        "Spearman",
        "Kendall",
        "tied %",
    ]
    heads += ["step"] * bool(steps) + ["FLOPs"] + ["gain"] * bool(gains)
    rows = []
    for r in found.to_dict("records"):
        row = [
            str(r["size"]), str(r["task"]), str(r["metric"]), str(r["models"]),
            f"{number(r['decision_accuracy'])} {interval(r['low'], r['high'])}",
            number(r["spearman"]), number(r["kendall"]), f"{100 * r['tied']:.1f}",
        ]  # fmt: skip
        if steps:
            row.append(f"{r['step']:.0f}")
        row.append("—" if r["flops"] != r["flops"] else f"{r['flops']:.2e}")
        if gains:
            known = r["gain"] == r["gain"]
            row.append(
                f"{r['gain']:+.3f} {interval(r['gain_low'], r['gain_high'])}" if known else ""
            )
        rows.append(row)
    print_grid(heads, rows, 3)
