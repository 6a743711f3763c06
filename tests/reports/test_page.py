"""The report page: what it says, that it needs nothing, and that Chromium draws it."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from olmeval.errors import UserError
from olmeval.reports.curves import MAX_BARS, charts, primary_rows, series_of
from olmeval.reports.page import write_page
from olmeval.stats.mean import Z95
from tests.reports.pages import HOSTILE, Page, browse, needs_chromium


def row(run: str, step: int, task: str, value: float, **more: Any) -> dict[str, Any]:
    base = {
        "run": run, "model": f"{run}/step{step}", "family": "olmo2", "params": 1, "params_total": 2,
        "tokens": step * 1000, "flops": 1.0, "step": step, "seed": 0, "mix": run, "task": task,
        "metric": "acc_per_char", "value": value, "stderr": 0.01, "n": 400,
        "higher_is_better": True, "primary": True,
    }  # fmt: skip
    return base | more


def table(names: tuple[str, ...] = ("even", "math"), steps: int = 4) -> pd.DataFrame:
    rows = []
    for k, run in enumerate(names):
        for step in range(1, steps + 1):
            rows.append(row(run, step, "arc_easy:rc", 0.2 + 0.01 * step * (k + 1)))
            bits = {"metric": "bits_per_byte", "higher_is_better": False}
            rows.append(row(run, step, "math:bpb", 3 - 0.1 * step * (k + 1), **bits))
            rows.append(row(run, step, "math:bpb", 0.5, metric="greedy_acc", primary=False))
    return pd.DataFrame(rows)


def compared(difference: float, stderr: float, higher: bool = True) -> pd.DataFrame:
    value = {"task": "arc_easy:rc", "metric": "acc_per_char", "a": "even", "b": "math"}
    value |= {"difference": difference, "stderr": stderr, "higher_is_better": higher}
    return pd.DataFrame([value])


def make(path: Path, rows: pd.DataFrame, **options: Any) -> str:
    return write_page(rows, path, **({"title": "Report"} | options)).read_text(encoding="utf-8")


def test_scores_are_the_last_checkpoints_of_the_primary_metric(tmp_path: Path) -> None:
    page = make(tmp_path / "page.html", table())
    cells = Page(page).cells
    assert "2 runs · 8 checkpoints · 2 tasks" in cells
    assert "greedy_acc" not in page.split('id="charts"')[0]
    bold = re.findall(r'class="number best">([\d.]+)', page)
    # Highest accuracy; lowest bits per byte: 0.2 + 0.01*4*2 and 3 - 0.1*4*2.
    assert bold == ["0.2800", "2.2000"]
    assert {"0.2400", "2.6000"} <= set(cells)
    assert cells.count("4k tokens") == 2


def test_charts_carry_values_and_95_percent_bars(tmp_path: Path) -> None:
    page = make(tmp_path / "page.html", table())
    figures = json.loads(Page(page).scripts[0])
    assert len(figures) == 2
    even, math = figures[0]["data"]
    assert even["x"] == [1000, 2000, 3000, 4000]
    assert even["y"] == pytest.approx([0.21, 0.22, 0.23, 0.24])
    assert even["error_y"]["array"] == pytest.approx([Z95 * 0.01] * 4)
    for key in (("line", "dash"), ("marker", "symbol"), ("meta", "color")):
        assert even[key[0]][key[1]] != math[key[0]][key[1]]


def test_many_checkpoints_get_bands() -> None:
    figure = charts(series_of(primary_rows(table(steps=MAX_BARS + 1))))[0]["figure"]
    band, line = figure["data"][:2]
    assert band["fill"] == "toself" and "error_y" not in line
    assert band["y"][0] == pytest.approx(line["y"][0] + Z95 * 0.01)
    assert band["y"][-1] == pytest.approx(line["y"][0] - Z95 * 0.01)


def test_steps_where_tokens_are_unknown_and_gaps() -> None:
    rows = table()
    rows["tokens"] = None
    rows.loc[rows["step"] == 2, "value"] = float("nan")
    figure = charts(series_of(primary_rows(rows)))[0]["figure"]
    assert figure["data"][0]["x"] == [1, 2, 3, 4] and figure["data"][0]["y"][1] is None
    assert figure["layout"]["xaxis"]["title"]["text"] == "training step"


def test_single_checkpoints_have_scores_and_no_chart(tmp_path: Path) -> None:
    rows = table(steps=1)
    rows = rows.assign(tokens=None, step=None, seed=None, mix=None, stderr=None)
    page = make(tmp_path / "page.html", rows)
    assert "Learning curves" not in page and "<script" not in page
    assert "0.2100" in page and "0.2200" in page


def test_seeds_and_mixes_name_the_lines() -> None:
    rows = pd.concat([table(("a",)), table(("a",)).assign(seed=1), table(("b",)).assign(mix="m")])
    assert [one.label for one in series_of(rows)] == ["a, seed 0", "a, seed 1", "b (m)"]


@pytest.mark.parametrize(
    ("difference", "stderr", "higher", "verdict"),
    [
        (0.05, 0.02, True, "even"),
        (-0.05, 0.02, True, "math"),
        (0.05, 0.02, False, "math"),
        (-0.05, 0.02, False, "even"),
        (0.05, 0.03, True, "within error"),
        (0.0195, 0.01, True, "within error"),
        (0.0197, 0.01, True, "even"),
        (0.05, float("nan"), True, "error unknown"),
    ],
)
def test_verdicts(
    tmp_path: Path, difference: float, stderr: float, higher: bool, verdict: str
) -> None:
    rows = compared(difference, stderr, higher)
    page = make(tmp_path / "page.html", table(), comparison=rows)
    body = page.split('class="comparison"')[1].split("</table>")[0]
    assert re.findall(r'<td class="(?:clear|within)">([^<]+)</td>', body) == [verdict]
    assert ("interval sure" in body) == (verdict in ("even", "math"))


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    rows = table((HOSTILE, "math"))
    rows["task"] = HOSTILE + rows["task"]
    rows["mix"] = "<b onclick=x>" + rows["mix"]
    comparison = compared(0.5, 0.01).assign(task=HOSTILE, a=HOSTILE, metric=HOSTILE)
    page = make(
        tmp_path / "page.html",
        rows,
        title=HOSTILE,
        summary=[HOSTILE],
        comparison=comparison,
        counters={HOSTILE: HOSTILE},
        provenance={HOSTILE: {HOSTILE: {HOSTILE: HOSTILE}}},
    )
    seen = Page(page)
    plain = Page(make(tmp_path / "plain.html", table(), comparison=compared(0.5, 0.01)))
    assert seen.elements.count("script") == plain.elements.count("script") == 3
    assert "img" not in seen.elements and "b" not in seen.elements and not seen.handlers
    assert seen.visible.count("alert('x')") >= 8
    # The names inside a chart are escaped for plotly, which reads a little HTML of its own.
    assert "<" not in json.loads(seen.scripts[0])[0]["data"][0]["name"]


def test_page_refers_to_nothing(tmp_path: Path) -> None:
    page = make(
        tmp_path / "page.html", table(), provenance={"data": {"url": "https://example.org"}}
    )
    assert Page(page).references == []
    style = page.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style and "@import" not in style
    assert "default-src 'none'" in page
    assert page.count("plotly.js v") == 1


def test_bad_tables(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no column 'stderr'"):
        make(tmp_path / "page.html", table().drop(columns="stderr"))
    with pytest.raises(UserError, match="no rows to report"):
        make(tmp_path / "page.html", table().iloc[:0])
    bad = compared(1, 1).drop(columns="difference")
    with pytest.raises(UserError, match="has no column 'difference'"):
        make(tmp_path / "page.html", table(), comparison=bad)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        make(tmp_path / "file" / "page.html", table())


@needs_chromium
def test_chromium_draws_the_page_without_a_console_message(tmp_path: Path) -> None:
    rows = pd.concat([table((HOSTILE, "even", "math")), table(("long",), steps=40)])
    make(tmp_path / "page.html", rows, title=HOSTILE, comparison=compared(0.5, 0.01))
    document, console = browse(tmp_path / "page.html", tmp_path / "profile")
    assert console == []
    assert 'data-drawn="2"' in document
    assert document.count('class="main-svg"') >= 2
    assert len(re.findall(r'<g class="trace scatter', document)) >= 8


@needs_chromium
def test_the_browser_check_sees_errors_and_blocked_requests(tmp_path: Path) -> None:
    page = make(tmp_path / "page.html", table())
    request = "<img src='https://example.invalid/x.png'><script>throw new Error('seen')</script>"
    (tmp_path / "bad.html").write_text(page.replace("</body>", f"{request}</body>"))
    _, console = browse(tmp_path / "bad.html", tmp_path / "profile")
    assert any("seen" in line for line in console)
    assert any("Content Security Policy" in line for line in console)


@needs_chromium
def test_phone_width_has_no_sideways_scroll(tmp_path: Path) -> None:
    # Chromium's own window cannot be this narrow, a frame can.
    make(
        tmp_path / "page.html",
        table(("a_run_with_a_rather_long_name_indeed_yes", "another_of_those_long_names")),
        title="A-title-of-one-very-long-word-" * 3,
        comparison=compared(0.5, 0.01),
        provenance={"data": {"sha256": "0" * 64}},
    )
    (tmp_path / "phone.html").write_text(
        """<iframe src="page.html" style="width:390px;height:800px;border:0"></iframe><script>
        onload = () => setTimeout(() => {
          const page = frames[0].document.documentElement;
          document.title = `${page.scrollWidth} of ${page.clientWidth}`;
        }, 500);</script>"""
    )
    document, _ = browse(tmp_path / "phone.html", tmp_path / "profile")
    assert "<title>390 of 390</title>" in document
