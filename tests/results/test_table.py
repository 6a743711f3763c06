"""The long table from foreign files, against pandas on the same files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from olmeval.errors import UserError
from olmeval.results.run import LONG_COLUMNS
from olmeval.results.table import load_table, query_table

ROOT = Path(__file__).parents[2]
LADDER = ROOT / "../shared/data/ladder/ladder-runs"
LONG_MAP = """
columns:
  model: name
  step: at
  task: bench
  metric: measure
  value: {column: score, unit: percent}
  stderr: {column: error, unit: percent, optional: true}
constants: {higher_is_better: true}
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def long_csv(path: Path, rows: str = "m1,10,arc,acc,25\nm2,10,arc,acc,50\n") -> Path:
    return write(path, "name,at,bench,measure,score\n" + rows)


def test_long_file_with_a_map(tmp_path: Path) -> None:
    mapping = write(tmp_path / "map.yaml", LONG_MAP)
    table = load_table([long_csv(tmp_path / "s.csv")], mapping)
    assert tuple(table.columns) == LONG_COLUMNS
    assert table["value"].tolist() == [0.25, 0.5]
    assert table["run"].tolist() == ["m1", "m2"]
    assert table["step"].tolist() == [10, 10]
    assert table["stderr"].isna().all()


def test_our_own_files_come_back_as_they_went(tmp_path: Path) -> None:
    mapping = write(tmp_path / "map.yaml", LONG_MAP)
    table = load_table([long_csv(tmp_path / "s.csv")], mapping)
    table.to_parquet(tmp_path / "t.parquet", index=False)
    table.to_csv(tmp_path / "t.csv", index=False)
    for name in ("t.parquet", "t.csv"):
        again = load_table([tmp_path / name])
        pd.testing.assert_frame_equal(again, table, check_dtype=False)


def test_wide_file_with_path_groups_and_combined_tasks(tmp_path: Path) -> None:
    write(
        tmp_path / "7B-2xC.csv",
        "s,batch,eval/a/bpb,eval/b/bpb,eval/a/acc\n1,4,1.0,2.0,10\n2,4,3.0,,20\n",
    )
    mapping = write(
        tmp_path / "map.yaml",
        """
path: '(?P<model>[^/]+)-(?P<mix>[^/]+)\\.csv'
columns:
  step: s
  tokens: {product: [s, batch], unit: million}
  params: {of: model, values: {7B: 7000}}
scores:
  - {columns: 'eval/(?P<task>.)/bpb', metric: bits_per_byte, higher_is_better: false}
  - {columns: 'eval/(?P<task>.)/(?P<metric>acc)', higher_is_better: true, unit: percent}
combine: {both: {a: 3, b: 1}}
""",
    )
    table = load_table([tmp_path / "7B-2xC.csv"], mapping)
    got = {
        (r["task"], r["metric"], r["step"]): (r["value"], r["higher_is_better"])
        for r in table.to_dict("records")
    }
    assert got == {
        ("a", "bits_per_byte", 1): (1.0, False), ("a", "bits_per_byte", 2): (3.0, False),
        ("b", "bits_per_byte", 1): (2.0, False), ("a", "acc", 1): (0.1, True),
        ("a", "acc", 2): (0.2, True), ("both", "bits_per_byte", 1): (1.25, False),
    }  # fmt: skip
    assert set(table["tokens"]) == {4e6, 8e6}
    assert set(table["params"]) == {7000}
    assert set(table["mix"]) == {"2xC"} and set(table["run"]) == {"7B"}


def test_nats_become_bits(tmp_path: Path) -> None:
    mapping = write(
        tmp_path / "map.yaml", LONG_MAP.replace("score, unit: percent", "score, unit: nats")
    )
    table = load_table([long_csv(tmp_path / "s.csv", f"m,1,t,loss,{np.log(2)}\n")], mapping)
    assert table["value"].tolist() == [pytest.approx(1.0, abs=1e-15)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("m,1,t,acc,many\n", "'score' is not numeric"),
        ("m,1,t,acc,1\nm,1,t,acc,2\n", "there twice, first task 't'"),
        ("m,1,t,acc,inf\n", "is not finite"),
        ("m,1,t,acc,\n", "no row has a value"),
        ("m,1,,acc,1\n", "1 rows lack 'task'"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, rows: str, message: str) -> None:
    mapping = write(tmp_path / "map.yaml", LONG_MAP)
    with pytest.raises(UserError, match=message):
        load_table([long_csv(tmp_path / "s.csv", rows)], mapping)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("model: name", "model: naem"), "no column 'naem'; did you mean 'name'"),
        (("value: {column: score", "value: {colum: score"), "unknown key 'columns.value"),
        (("unit: percent}\n  stderr", "unit: stones}\n  stderr"), "unit"),
        (("  task: bench\n", ""), "nothing gives 'task'"),
        (("constants: {higher_is_better: true}", "constants: {}"), "higher_is_better"),
    ],
)
def test_bad_maps_are_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in LONG_MAP
    mapping = write(tmp_path / "map.yaml", LONG_MAP.replace(*change))
    with pytest.raises(UserError, match=message):
        load_table([long_csv(tmp_path / "s.csv")], mapping)


def test_foreign_file_without_a_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no column 'model'.*--map"):
        load_table([long_csv(tmp_path / "s.csv")])


def test_queries_see_the_table_and_no_file(tmp_path: Path) -> None:
    mapping = write(tmp_path / "map.yaml", LONG_MAP)
    table = load_table([long_csv(tmp_path / "s.csv")], mapping)
    assert query_table("SELECT max(value) AS best FROM t", table)["best"].tolist() == [0.5]
    with pytest.raises(UserError, match="the query failed"):
        query_table(f"SELECT * FROM '{tmp_path}/s.csv'", table)
    with pytest.raises(UserError, match="nothing_here"):
        query_table("SELECT nothing_here FROM t", table)


@pytest.mark.skipif(not LADDER.exists(), reason="the ladder's CSVs are not beside the checkout")
def test_ladder_csvs_load_with_the_shipped_map() -> None:
    files = sorted(LADDER.glob("1B-*.csv"))
    table = load_table(files, ROOT / "examples/tables/olmo-ladder.yaml")
    assert set(table["run"]) == {f.stem for f in files}
    assert set(table["params"]) == {1279395840}
    assert set(table[table["run"] == "1B-1xC-rerun"]["seed"]) == {1}
    raw = pd.read_csv(LADDER / "1B-10xC.csv")
    ours = table[table["run"] == "1B-10xC"].sort_values("step")
    piqa = ours[(ours["task"] == "piqa_val_rc_5shot") & (ours["metric"] == "accuracy")]
    assert piqa["value"].tolist() == raw["eval/downstream/piqa_val_rc_5shot_len_norm"].tolist()
    np.testing.assert_allclose(piqa["tokens"], raw["throughput/total_tokens"])
    np.testing.assert_allclose(piqa["flops"], 1e9 * raw["throughput/total_training_Gflops"])
    weights = {"stem": 0.215, "humanities": 0.335, "social_sciences": 0.219, "other": 0.231}
    mmlu = ours[(ours["task"] == "mmlu_avg_test_rc_5shot") & (ours["metric"] == "bits_per_byte")]
    expected = sum(
        w * raw[f"eval/downstream_bpb/mmlu_{part}_test_rc_5shot_bpb"] for part, w in weights.items()
    )
    np.testing.assert_allclose(mmlu["value"], expected, rtol=1e-12)
