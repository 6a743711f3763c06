"""``olmeval table``: bring scores from anywhere into the long table, and ask it questions."""

from pathlib import Path

import click

from olmeval.cli.tables import print_or_write

FILES = click.Path(exists=False, path_type=Path)


@click.group(
    epilog='Example: olmeval table query "SELECT task, max(value) FROM t GROUP BY 1" runs/'
)
def table() -> None:
    """The long table: import foreign files, query it with SQL."""


@table.command(
    "import",
    epilog="""\b
Examples:
  olmeval table import scores.csv --map map.yaml -o scores.parquet
  olmeval table import ladder-runs/*.csv --map examples/tables/olmo-ladder.yaml -o ladder.parquet
""",
)
@click.argument("paths", nargs=-1, required=True, type=FILES)
@click.option("--map", "mapping", type=FILES, help="YAML: their columns and units to ours.")
@click.option(
    "--output", "-o", required=True, type=FILES, help="The long table: a .parquet or .csv file."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def import_(paths: tuple[Path, ...], mapping: Path | None, output: Path, as_json: bool) -> None:
    """Write the long table of PATHS: CSV or Parquet files, or folders of them or of runs."""
    from olmeval.errors import UserError
    from olmeval.files import atomic_path
    from olmeval.results.table import load_table

    if output.suffix not in (".parquet", ".csv"):
        raise UserError(f"--output {output} ends in neither .parquet nor .csv")
    loaded = load_table(paths, mapping)
    with atomic_path(output) as tmp:
        if output.suffix == ".csv":
            loaded.to_csv(tmp, index=False)
        else:
            loaded.to_parquet(tmp, index=False)
    counts = {name: loaded[name].nunique() for name in ("run", "task", "metric")}
    if as_json:
        import json

        click.echo(json.dumps({"table": str(output), "scores": len(loaded), **counts}, indent=2))
        return
    click.echo(
        f"{len(loaded):,} scores of {counts['run']:,} runs, {counts['task']:,} tasks and "
        f"{counts['metric']:,} metrics in '{output}'"
    )


@table.command(
    epilog="""\b
Examples:
  olmeval table query "SELECT task, avg(value) FROM t GROUP BY task" ladder.parquet
  olmeval table query "SELECT * FROM t WHERE step > 1000" runs/ --csv late.csv
"""
)
@click.argument("sql")
@click.argument("paths", nargs=-1, type=FILES)
@click.option("--map", "mapping", type=FILES, help="YAML: their columns and units to ours.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON records.")
@click.option("--csv", type=FILES, help="Write the answer as CSV.")
def query(
    sql: str, paths: tuple[Path, ...], mapping: Path | None, as_json: bool, csv: Path | None
) -> None:
    """Answer SQL (DuckDB) about the long table, which is called t. PATHS default to runs/."""
    from olmeval.results.table import load_table, query_table

    answer = query_table(sql, load_table(paths or (Path("runs"),), mapping))
    print_or_write(answer, as_json, csv, lambda t: click.echo(t.to_string(index=False)))
