"""Lists of instances: DuckDB against pandas, and one instance against what was written."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from olmeval.errors import CorruptFileError, UserError
from olmeval.reports.view.app import App
from olmeval.reports.view.asked import FILTERS, ask
from olmeval.reports.view.catalog import RESCAN, Catalog
from olmeval.reports.view.listing import PAGE, PAIRS
from olmeval.results.run import Run
from olmeval.results.run_files import RunFiles
from olmeval.stats.mean import paired_difference
from tests.reports.view_runs import CHOICES, HOSTILE, make_run, write_status


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    make_run(root / "first", seed=1)
    make_run(root / "second", seed=2)
    return root


@pytest.fixture(scope="module")
def app(runs: Path) -> App:
    return App([runs])


def rows_of(runs: Path, run: str, task: str, metric: str) -> pd.DataFrame:
    table = Run(runs / run).instances()
    table = table[(table["task"] == task) & (table["metric"] == metric)]
    return table.set_index("doc_id").sort_index()


def everything(app: App, query: dict[str, str]) -> list[dict[str, Any]]:
    """All pages of a list."""
    first = app.answer("instances", query)
    rows = list(first["rows"])
    while len(rows) < first["total"]:
        rows += app.answer("instances", query | {"offset": str(len(rows))})["rows"]
    return rows


QUERY = {"run": "first", "task": "quiz:rc"}
PAIR = QUERY | {"with": "second"}


def test_filters_and_counts_are_those_of_pandas(runs: Path, app: App) -> None:
    a = rows_of(runs, "first", "quiz:rc", "acc_per_char")
    b = rows_of(runs, "second", "quiz:rc", "acc_per_char")
    v, w = a["value"], b["value"]
    expected = {
        "all": v.index, "wrong": v.index[v < 0.5], "right": v.index[v >= 0.5],
        "partial": v.index[(v > 0) & (v < 1)],
        "flipped": v.index[((v >= 0.5) & (w < 0.5)) | ((v < 0.5) & (w >= 0.5))],
        "lost": v.index[(v >= 0.5) & (w < 0.5)], "gained": v.index[(v < 0.5) & (w >= 0.5)],
        "truncated": v.index[a["status"] == "truncated"],
        "errors": v.index[a["status"] == "error"], "unmatched": v.index[:0],
    }  # fmt: skip
    counts = app.answer("counts", PAIR)
    assert counts == {name: len(docs) for name, docs in expected.items()}
    assert min(counts[n] for n in ("wrong", "flipped", "lost", "gained", "truncated", "errors")) > 0
    for name, docs in expected.items():
        found = everything(app, PAIR | {"filter": name, "sort": "document"})
        assert [row["doc_id"] for row in found] == list(docs), name
    assert set(app.answer("counts", QUERY)) == {
        "all", "wrong", "right", "partial", "truncated", "errors"
    }  # fmt: skip


def test_two_runs_show_flipped_instances_first_and_largest_change(runs: Path, app: App) -> None:
    rows = everything(app, PAIR)
    flipped = [
        (r["value"] is not None) and (r["value"] >= 0.5) != (r["other"] >= 0.5) for r in rows
    ]
    assert flipped == sorted(flipped, reverse=True) and any(flipped)
    bits = everything(app, PAIR | {"task": "quiz:bpb"})
    gaps = [abs(r["other"] - r["value"]) for r in bits if r["value"] is not None]
    assert gaps == sorted(gaps, reverse=True)
    assert all(r["value"] is None for r in bits[len(gaps) :])  # what has no value comes last
    drop = everything(app, PAIR | {"task": "quiz:bpb", "sort": "drop"})
    changes = [r["other"] - r["value"] for r in drop if r["value"] is not None]
    assert changes == sorted(changes)


def test_metrics_that_judge_nothing_have_no_wrong_answers(app: App) -> None:
    names = app.answer("counts", PAIR | {"metric": "bits_per_byte"})
    assert set(names) == {"all", "truncated", "errors", "unmatched"}
    with pytest.raises(UserError, match="the filter 'wrong' does not apply here; known: all"):
        app.answer("instances", QUERY | {"metric": "bits_per_byte", "filter": "wrong"})


def test_difference_is_the_paired_one(runs: Path, app: App) -> None:
    for task, metric in (("quiz:rc", "acc_per_char"), ("quiz:bpb", "bits_per_byte")):
        a = rows_of(runs, "first", task, metric)["value"]
        b = rows_of(runs, "second", task, metric)["value"]
        kept = a.notna() & b.notna()
        expected = paired_difference(b[kept], a[kept])
        found = app.answer("difference", PAIR | {"task": task})
        assert found["value"] == pytest.approx(expected.value, rel=1e-12)
        assert found["stderr"] == pytest.approx(expected.stderr, rel=1e-12)
        assert found["n"] == expected.n
        assert ("lost" in found) == (task == "quiz:rc")


def test_difference_of_questions_that_share_passages(tmp_path: Path) -> None:
    for seed, name in enumerate(("first", "second")):
        folder = make_run(tmp_path / name, seed=seed)
        table = pd.read_parquet(folder / "instances.parquet")
        passage = "p" + (table["doc_id"] // 5).astype(str)
        table["cluster"] = passage.where(table["doc_id"] < 100, None)  # the rest stand alone
        table.to_parquet(folder / "instances.parquet", index=False)
        metrics = json.loads((folder / "metrics.json").read_text())
        metrics["tasks"]["quiz:rc"]["clusters"] = 40
        (folder / "metrics.json").write_text(json.dumps(metrics))
    a = rows_of(tmp_path, "first", "quiz:rc", "acc_per_char")["value"]
    b = rows_of(tmp_path, "second", "quiz:rc", "acc_per_char")["value"]
    kept = a.notna() & b.notna()
    labels = [doc // 5 if doc < 100 else f"alone {doc}" for doc in a.index[kept]]
    expected = paired_difference(b[kept], a[kept], labels)
    found = App([tmp_path]).answer("difference", PAIR)
    assert found["stderr"] == pytest.approx(expected.stderr, rel=1e-12)
    assert found["stderr"] != pytest.approx(paired_difference(b[kept], a[kept]).stderr, rel=1e-6)


def test_pages_and_the_page_of_a_document(app: App) -> None:
    order = [r["doc_id"] for r in everything(app, PAIR)]
    assert sorted(order) == list(range(120))
    for doc in (order[0], order[77], order[119]):
        page = app.answer("instances", PAIR | {"doc": str(doc)})
        assert page["offset"] == order.index(doc) // PAGE * PAGE
        assert doc in [r["doc_id"] for r in page["rows"]]
    gone = app.answer("instances", QUERY | {"doc": "7", "filter": "right"})
    assert gone["offset"] == 0


def test_search(app: App) -> None:
    def found(text: str, task: str = "quiz:rc") -> list[int]:
        query = QUERY | {"task": task, "q": text}
        return [r["doc_id"] for r in everything(app, query)]

    magnets = [doc for doc in range(120) if doc % 10 == 3]
    assert found("magnet") == magnets == found("number")[3::10]
    assert found("number 17,") == [17]
    assert found("MAGNET") == []  # an upper-case letter asks for itself
    assert found("w2 w2 w2 w2") == [doc for doc in range(120) if (doc + 2) % 4 == 3]
    assert found("q77") == [77] == found("Q77")
    assert found("answer is 3.", "riddles:cot") == [d for d in range(6, 60) if d % 7 == 3]
    # Escapes of the stored JSON do not hide a text, nor are its other fields a text.
    assert found("مرحبا", "riddles:cot") == [5]
    assert found("length", "riddles:cot") == [] == found("\\u0645", "riddles:cot")
    assert found('onerror="', "riddles:cot") == [0]
    assert found("right; drop table x; --") == [] and found("%") == []


def tables_of(app: App) -> int:
    found = app._instances._database.cursor().execute("select count(*) from duckdb_tables()")
    return int(found.fetchall()[0][0])


def test_joined_pairs_are_kept_few_and_dropped(tmp_path: Path) -> None:
    names = [f"r{k}" for k in range(PAIRS + 2)]
    for seed, name in enumerate(names):
        make_run(tmp_path / name, docs=30, seed=seed)
    app = App([tmp_path])
    for name in names[1:]:
        query = {"run": "r0", "with": name, "task": "quiz:rc"}
        assert app.answer("counts", query)["flipped"] == len(
            everything(app, query | {"filter": "flipped"})
        )
    assert len(names) - 1 > PAIRS == tables_of(app)
    with ThreadPoolExecutor(6) as pool:  # pairs are dropped while others are read
        asked = [{"run": a, "with": b, "task": "quiz:rc"} for a in names for b in names if a < b]
        found = list(pool.map(lambda query: app.answer("counts", query), 3 * asked))
    assert found == 3 * [App([tmp_path]).answer("counts", query) for query in asked]
    assert tables_of(app) == PAIRS


def test_a_run_that_is_written_again_is_joined_again(tmp_path: Path) -> None:
    for seed, name in enumerate(("first", "second")):
        make_run(tmp_path / name, seed=seed)
    app = App([tmp_path])
    before = app.answer("counts", PAIR)
    assert before == app.answer("counts", PAIR) and before["lost"] > 0 and tables_of(app) == 1
    path = tmp_path / "second" / "instances.parquet"
    table = pd.read_parquet(path)
    table.loc[table["metric"] == "acc_per_char", "value"] = 0.0
    table.to_parquet(path, index=False)
    after = app.answer("counts", PAIR)
    assert after["gained"] == 0 and after["lost"] > before["lost"]


def test_samples_at_the_token_limit(app: App) -> None:
    query = {"run": "first", "task": "riddles:cot"}
    limited = [doc for doc in range(60) if doc % 5 == 0]
    assert app.answer("counts", query)["length"] == len(limited)
    found = everything(app, query | {"filter": "length"})
    assert [r["doc_id"] for r in found] == limited
    assert "length" not in app.answer("counts", QUERY)


def test_samples_with_grades_and_verdicts(app: App) -> None:
    query = {"run": "first", "task": "riddles:cot"}
    for name, docs in (("unparsed", range(10, 60, 11)), ("cheats", [9])):
        assert app.answer("counts", query)[name] == len(docs)
        found = everything(app, query | {"filter": name})
        assert [r["doc_id"] for r in found] == list(docs)
    one = app.answer("instance", query | {"doc": "9"})["sides"][0]["samples"]
    assert [(s["answer"], s["right"]) for s in one] == [("2", 1.0), (None, 0.0)]
    assert one[0]["verdict"]["suspected_cheat"] and one[0]["verdict"]["stdout"] == HOSTILE[0]
    assert one[0]["verdict"]["strict"] == "failed" and "verdict" not in one[1]


def test_one_instance_is_what_was_written(runs: Path, app: App) -> None:
    written = {i.doc_id: i for i in RunFiles(Run(runs / "first")).instances["quiz:rc"]}
    for doc in (0, 5, 64, 119):
        side = app.answer("instance", QUERY | {"doc": str(doc)})["sides"][0]
        expected = written[doc]
        assert side["native_id"] == f"Q{doc}" and side["gold"] == doc % CHOICES == expected.gold
        assert side["prompt"] == expected.requests[0].context
        for choice, asked in zip(side["choices"], expected.requests, strict=True):
            assert asked.response is not None
            lp = asked.response.logprob
            assert choice["text"] == asked.continuation and choice["logprob"] == lp
            assert choice["token_logprobs"] == asked.response.token_logprobs.tolist()
            assert choice["scores"] == {
                "acc_raw": lp, "acc_per_token": lp / asked.continuation_tokens,
                "acc_per_char": lp / len(asked.continuation), "acc_per_byte": lp / asked.bytes,
            }  # fmt: skip
        by_char = [c["scores"]["acc_per_char"] for c in side["choices"]]
        assert side["best"]["acc_per_char"] == [int(np.argmax(by_char))]
        assert (side["values"]["acc_per_char"] == 1) == (np.argmax(by_char) == side["gold"])


def test_the_right_choice_of_runs_that_do_not_name_it(runs: Path, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "old", seed=1)
    old = pd.read_parquet(folder / "instances.parquet").drop(columns=["gold", "references"])
    old.to_parquet(folder / "instances.parquet")
    side = App([tmp_path]).answer("instance", {"run": "old", "task": "quiz:rc", "doc": "5"})
    assert side["sides"][0]["gold"] == 5 % CHOICES and side["sides"][0]["references"] == []


def test_examples_that_prompts_share_are_told(app: App) -> None:
    from tests.reports.view_runs import SHOTS

    found = app.answer("instance", QUERY | {"doc": "5"})
    assert found["shared"] == len(SHOTS)
    snippets = app.answer("snippets", QUERY | {"docs": "3,5,119"})
    assert snippets == {
        "3": "Question: number 3, magnet?", "5": "Question: number 5, iron?",
        "119": "Question: number 119, iron?",
    }  # fmt: skip


def test_samples_come_with_references_and_hostile_texts_whole(app: App) -> None:
    for doc, text in enumerate(HOSTILE):
        query = {"run": "first", "task": "riddles:cot", "doc": str(doc)}
        side = app.answer("instance", query)["sides"][0]
        assert side["samples"][0]["text"] == text and len(side["samples"]) == 2
        assert side["references"] == [str(doc), HOSTILE[0]]
        assert side["sampling"]["temperature"] == 1.0


def test_instances_of_one_run_alone(tmp_path: Path) -> None:
    make_run(tmp_path / "long", docs=120)
    make_run(tmp_path / "short", docs=60, seed=3)
    app = App([tmp_path])
    query = {"run": "long", "with": "short", "task": "quiz:rc"}
    assert app.answer("counts", query)["unmatched"] == 60
    assert app.answer("difference", query)["n"] == 60 - 2  # two of them are errors
    sides = app.answer("instance", query | {"doc": "100"})["sides"]
    assert sides[0]["doc_id"] == 100 and sides[1] is None


def test_runs_appear_while_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("olmeval.reports.view.catalog.RESCAN", -1.0)
    write_status(tmp_path / "deep" / "new", "running", ["quiz:rc"])
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "run.json").write_text('{"recipe": "of a training run"}')
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    catalog = Catalog([tmp_path])
    found = {entry.id: entry.about() for entry in catalog.entries()}
    assert found.keys() == {"deep/new", "broken"}
    assert found["deep/new"]["status"] == "running" and not found["deep/new"]["finished"]
    assert (
        found["broken"]["status"] == "unreadable"
        and "not a JSON object" in found["broken"]["error"]
    )
    with pytest.raises(UserError, match="has no scores yet"):
        ask(catalog.get("deep/new"), "quiz:rc")
    (tmp_path / "deep" / "new" / "run.json").unlink()
    (tmp_path / "deep" / "new").rmdir()
    make_run(tmp_path / "deep" / "new")
    assert next(e for e in catalog.entries() if e.id == "deep/new").finished
    assert RESCAN > 0


def test_runs_of_several_folders_keep_apart(tmp_path: Path) -> None:
    for name in ("a/runs/x", "b/runs/x"):
        write_status(tmp_path / name, "running", [])
    ids = {e.id for e in Catalog([tmp_path / "a" / "runs", tmp_path / "b" / "runs"]).entries()}
    assert len(ids) == 2
    assert {e.id for e in Catalog([tmp_path / "a", tmp_path / "b"]).entries()} == {
        "a/runs/x", "b/runs/x"
    }  # fmt: skip
    assert [e.id for e in Catalog([tmp_path / "a" / "runs" / "x"]).entries()] == ["x"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"run": "../first", "task": "quiz:rc"}, "there is no run '../first' here"),
        ({"run": "/etc", "task": "quiz:rc"}, "there is no run '/etc' here"),
        ({"run": "first", "task": "none"}, "has no task 'none'"),
        (QUERY | {"metric": "f2"}, "has no metric 'f2'; it has acc_per_char, bits_per_byte"),
        (QUERY | {"filter": "1=1"}, "the filter '1=1' does not apply"),
        (QUERY | {"filter": "flipped"}, "does not apply here"),
        (QUERY | {"sort": "doc_id; drop"}, "unknown order"),
        (QUERY | {"offset": "-1"}, "offset is a whole number, not '-1'"),
        (QUERY | {"doc": "1 or 1=1"}, "doc is a whole number"),
    ],
)
def test_bad_questions(app: App, query: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        app.answer("instances", query)


def test_damaged_files_say_so(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    app = App([tmp_path])
    query = {"run": "run", "task": "quiz:rc", "doc": "5"}
    assert app.answer("instance", query)
    path = folder / "responses.parquet"
    whole = path.read_bytes()
    at = whole.index(b"PAR1") + 200
    path.write_bytes(whole[:at] + bytes(64) + whole[at + 64 :])
    with pytest.raises(CorruptFileError, match=r"responses.parquet' cannot be read"):
        app.answer("instance", query)
    (folder / "requests.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(CorruptFileError, match=r"requests.parquet' cannot be read"):
        app.answer("instance", query)
    (folder / "instances.parquet").write_bytes(b"no")
    with pytest.raises(CorruptFileError, match="cannot be read"):
        app.answer("instances", query)


def test_every_answer_is_json(app: App) -> None:
    for name in ("runs", "tasks", "instances", "counts"):
        text = json.dumps(app.answer(name, PAIR), allow_nan=False)
        assert json.loads(text)
    error = app.answer("instance", PAIR | {"doc": "7"})["sides"][0]
    assert error["status"] == "error" and error["values"]["acc_per_char"] is None
    assert not any(isinstance(v, float) and math.isnan(v) for v in error["values"].values())
    assert set(FILTERS) >= set(app.answer("counts", PAIR))
