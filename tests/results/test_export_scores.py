"""Scores for papers, trackers and model cards: what was written is read back by their readers."""

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml

from olmeval.errors import UserError
from olmeval.results.export_card import card, export_cards
from olmeval.results.export_scores import export_scores, series_of
from olmeval.results.run import Run
from tests.reports.pages import HOSTILE, long_table, make_run


def text_of(table: pd.DataFrame, format: str, folder: Path) -> str:
    (path,) = export_scores(table, format, folder)
    return path.read_text(encoding="utf-8")


def test_markdown_has_every_run_and_the_best_is_bold(tmp_path: Path) -> None:
    table = long_table(runs=2, steps=3, tasks=3)
    lines = text_of(table, "markdown", tmp_path).splitlines()
    assert lines[0] == "| task | metric | n | run0 | run1 |"
    rows = [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in lines[2:5]]
    last = table[table["step"] == 3000].set_index(["task", "run"])["value"]
    for row in rows:
        task = row[0]
        for cell, run in zip(row[3:], ("run0", "run1"), strict=True):
            value = last[task, run]
            best = value == (max if "↑" in row[1] else min)(last[task])
            assert cell == (f"**{value:.3f} ± 0.012**" if best else f"{value:.3f} ± 0.012")
    assert sum("**" in line for line in lines) == 3


def test_markdown_text_cannot_leave_its_cell(tmp_path: Path) -> None:
    table = long_table(runs=1, steps=1, tasks=1).assign(run=f"a|b\n{HOSTILE}", task="*x*")
    lines = text_of(table, "markdown", tmp_path).splitlines()
    assert len(lines) == 5 and "<" not in "".join(lines)
    assert lines[0].count("|") - lines[0].count("\\|") == 5
    assert lines[2].startswith(r"| \*x\* |")


def test_latex_is_a_table_of_as_many_columns(tmp_path: Path) -> None:
    table = long_table(runs=2, steps=2, tasks=3)
    table["run"] = table["run"].replace("run0", "50%_of & {all}")
    lines = text_of(table, "latex", tmp_path).splitlines()
    assert lines[1] == r"\begin{tabular}{llrrr}" and lines[-1] == r"\end{tabular}"
    assert r"50\%\_of \& \{all\}" in lines[3]
    body = [line for line in lines if line.endswith(r"\\")]
    assert len(body) == 4
    for line in body:
        assert len(re.findall(r"(?<!\\)&", line)) == 4
    best = [line for line in lines if r"\mathbf{" in line]
    assert len(best) == 3
    value = table[(table["run"] == "run1") & (table["step"] == 2000)]["value"].iloc[0]
    assert rf"$\mathbf{{{value:.3f} \pm 0.012}}$" in lines[5]


def test_seeds_are_series_and_gaps_are_dashes(tmp_path: Path) -> None:
    table = pd.concat([long_table(runs=1), long_table(runs=1, tasks=2).assign(seed=1)])
    assert [one.label for one in series_of(table)] == ["run0, seed 0", "run0, seed 1"]
    assert text_of(table, "markdown", tmp_path).splitlines()[4].endswith("| – |")


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install 'olmeval[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    table = long_table(runs=2, steps=3, tasks=2)
    for _ in range(2):  # a second export adds nothing
        files = export_scores(table, "tensorboard", tmp_path)
    assert [f.parent.name for f in files] == ["run0", "run1"]
    for run in ("run0", "run1"):
        events = EventAccumulator(str(tmp_path / run))
        events.Reload()
        for task, rows in table[table["run"] == run].groupby("task"):
            tag = f"{task}/acc_per_char"
            points = events.Scalars(tag)
            assert [p.step for p in points] == [1000, 2000, 3000]
            assert [p.value for p in points] == pytest.approx(rows["value"].tolist(), rel=1e-6)
            assert events.Scalars(f"{tag} stderr")[0].value == pytest.approx(0.012, rel=1e-6)


def records(path: Path) -> Iterator[bytes]:
    """Records of a W&B file: a header of 7 bytes, then LevelDB's log format in 32 KiB blocks."""
    data, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def test_wandb_keeps_what_was_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="pip install 'olmeval[wandb]'")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_SILENT", "true")
    table = long_table(runs=1, steps=3, tasks=1)
    (folder,) = export_scores(table, "wandb", tmp_path)
    (path,) = folder.glob("run-*.wandb")
    history, config = [], {}
    for raw in records(path):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(raw)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            history.append(
                {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
            )
        if record.WhichOneof("record_type") == "run":
            assert record.run.display_name == "run0" and record.run.project == "olmeval"
            config |= {c.key: c.value_json for c in record.run.config.update}
    assert [h["_step"] for h in history] == [1000, 2000, 3000]
    assert [h["family0:rc:5shot/acc_per_char"] for h in history] == table["value"].tolist()
    assert [h["tokens"] for h in history] == [1e9, 2e9, 3e9]
    assert config["mix"] == '"mix0"'


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_what_is_not_installed_is_said(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=rf"pip install 'olmeval\[{name}\]'"):
        export_scores(long_table(runs=1), name, tmp_path)


def card_run(folder: Path) -> Run:
    return make_run(folder, {"one:rc:5shot": [1.0, 0.0, 1.0, 1.0], "one:mc:5shot": [0.0, 1.0]})


def test_the_hub_reads_the_card(tmp_path: Path) -> None:
    from huggingface_hub import ModelCard
    from huggingface_hub.repocard_data import eval_results_to_model_index

    run = card_run(tmp_path / "model-step10")
    (path,) = export_cards([run], tmp_path / "cards")
    assert path == tmp_path / "cards" / "model-step10" / "README.md"
    data = ModelCard.load(path).data
    found = {(r.metric_name, r.metric_type): r.metric_value for r in data.eval_results}
    assert found["one:rc:5shot acc_raw (primary)", "acc_raw"] == 0.75
    assert found["one:mc:5shot acc_raw (primary)", "acc_raw"] == 0.5
    assert found["one:rc:5shot acc_raw stderr", "acc_raw_stderr"] == pytest.approx(0.25)
    assert len(data.eval_results) == 4 and data.eval_results[0].metric_args == {"num_few_shot": 5}
    # What the library itself would write of what it read.
    front = yaml.safe_load(path.read_text().split("---")[1])
    assert eval_results_to_model_index(data.model_name, data.eval_results) == front["model-index"]
    assert front["pipeline_tag"] == "text-generation"
    assert "| one:rc:5shot | acc\\_raw ↑ | 4 | **" not in card(run)
    assert "| one:rc:5shot | acc\\_raw ↑ | 4 | 0.75 ± 0.25 |" in card(run)


def test_only_pinned_hub_data_is_named(tmp_path: Path) -> None:
    run = card_run(tmp_path / "m")
    kinds = {"one:rc:5shot": ("allenai/ai2_arc", "abc"), "one:mc:5shot": ("/home/me/x", "unpinned")}
    for task, (name, revision) in kinds.items():
        run.info["tasks"][task]["data"] = [{"kind": "hub", "name": name, "revision": revision}]
    front = yaml.safe_load(card(run).split("---")[1])
    assert front["datasets"] == ["allenai/ai2_arc"]
    revisions = [r["dataset"].get("revision") for r in front["model-index"][0]["results"]]
    assert sorted(revisions, key=str) == [None, "abc"]


def test_bad_exports(tmp_path: Path) -> None:
    table = long_table(runs=2, steps=1)
    with pytest.raises(UserError, match="unknown format 'excel'"):
        export_scores(table, "excel", tmp_path)
    with pytest.raises(UserError, match="no score"):
        export_scores(table.iloc[:0], "latex", tmp_path)
    run = card_run(tmp_path / "same")
    with pytest.raises(UserError, match="is a run folder"):
        export_cards([run], tmp_path)
