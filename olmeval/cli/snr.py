"""``olmeval snr``: which benchmarks tell models apart, and how well."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from olmeval.cli.tables import interval, number, print_grid, print_or_write, table_options

if TYPE_CHECKING:
    import pandas as pd

EPILOG = """\b
Examples:
  olmeval snr runs/
  olmeval snr ladder.parquet --per params --metric accuracy --last 10
  olmeval snr scores.csv --map map.yaml --where "params < 2e8" --noise-where "run = '1B-10xC'"
"""


@click.command(epilog=EPILOG)
@table_options
@click.option("--by", default="run", help="Column whose values are the models.", show_default=True)
@click.option("--per", help="Column whose values are populations of their own, such as params.")
@click.option("--last", default=5, show_default=True, help="Checkpoints at the end of a run.")
@click.option("--measure", default="range", show_default=True, help="Spread that is the signal.")
@click.option("--noise-where", metavar="SQL", help="Runs whose checkpoints are the noise.")
@click.option("--average", default=1, show_default=True, help="Checkpoints a comparison averages.")
@click.option("--samples", default=2000, show_default=True, help="Bootstrap samples.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON records.")
@click.option("--csv", type=click.Path(path_type=Path), help="Write all columns as CSV.")
def snr(
    paths: tuple[Path, ...],
    mapping: Path | None,
    where: str | None,
    tasks: tuple[str, ...],
    metrics: tuple[str, ...],
    by: str,
    per: str | None,
    last: int,
    measure: str,
    noise_where: str | None,
    average: int,
    samples: int,
    seed: int,
    as_json: bool,
    csv: Path | None,
) -> None:
    """Signal, noise and their ratio of every score, with 95 % intervals. PATHS default to runs/.

    Signal is the relative spread of the models' final scores, noise the relative standard deviation
    (divisor n-1) of a run's last checkpoints. "resolves" is the smallest difference of two models
    that is found with 80 % power, given that noise.
    """
    from olmeval.analysis.grid import choose
    from olmeval.analysis.snr import SnrSettings, snr_table
    from olmeval.results.table import load_table

    loaded = load_table(paths or (Path("runs"),), mapping)
    settings = SnrSettings(by, per, last, measure, average, samples, seed)
    of_noise = choose(loaded, noise_where, tasks, metrics) if noise_where else None
    found = snr_table(choose(loaded, where, tasks, metrics), settings, of_noise)
    print_or_write(found, as_json, csv, _print)


def _print(found: "pd.DataFrame") -> None:
    rows = [
        (
            *((str(r["population"]),) if r["population"] else ()),
            str(r["task"]),
            str(r["metric"]),
            str(r["models"]),
            f"{number(r['snr'])} {interval(r['snr_low'], r['snr_high'])}",
            number(100 * r["signal"]),
            f"{number(100 * r['noise'])} {interval(100 * r['noise_low'], 100 * r['noise_high'])}",
            number(100 * r["noise_seed"]),
            number(100 * r["noise_questions"]),
            number(r["resolvable"]),
        )
        for r in found.sort_values(["population", "snr"], ascending=[True, False]).to_dict(
            "records"
        )
    ]
    heads = ["task", "metric", "models", "SNR", "signal %", "noise %", "seeds %", "questions %"]
    lefts = 2
    if rows and len(rows[0]) > len(heads) + 1:
        heads, lefts = ["population", *heads], 3
    print_grid([*heads, "resolves"], rows, lefts)
