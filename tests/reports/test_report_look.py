"""How the report looks and behaves: contrast, signs beside colour, size, and a real browser."""

import json
import re
import resource
from html import unescape
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmeval.reports.report import write_report
from olmeval.reports.report_svg import SHAPES, dash_rules, sample, shape, short, thinned, ticks
from olmeval.reports.report_text import LONGEST, cut, digits, name
from tests.reports.pages import HOSTILE, browse, long_table, needs_chromium

CSS = (files("olmeval.reports") / "page.css").read_text(encoding="utf-8")
PALETTE = {
    key: dict(zip(("light", "dark"), pair, strict=True))
    for key, *pair in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", CSS)
}
SERIES = [f"series-{k}" for k in range(8)]


def luminance(color: str) -> float:
    """Relative luminance of WCAG 2.2."""
    parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_contrast_formula() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast_is_at_least_wcag_aa(theme: str) -> None:
    text = ["ink", "soft", "accent", "good", "bad"]
    assert {*text, *SERIES, "edge", "ground", "panel"} <= set(PALETTE)
    for ground in ("ground", "panel"):
        for key in text:
            assert contrast(PALETTE[key][theme], PALETTE[ground][theme]) >= 4.5, (key, ground)
        # Lines, marks and borders of controls (success criterion 1.4.11).
        for key in [*SERIES, "edge"]:
            assert contrast(PALETTE[key][theme], PALETTE[ground][theme]) >= 3.0, (key, ground)


def test_every_colour_of_the_report_is_of_the_palette() -> None:
    own = (files("olmeval.reports") / "report.css").read_text(encoding="utf-8")
    used = set(re.findall(r"var\(--([\w-]+)\)", own)) - {"mine"}
    assert used <= set(PALETTE)
    assert set(re.findall(r"#[0-9a-f]{3,8}\b", own)) == {"#0002"}  # a shadow


def test_series_differ_in_more_than_colour() -> None:
    looks = set()
    for slot in range(8):
        (drawn,) = re.findall(r'd="(M[^"]*)" ?(?:transform|/)', shape(slot))
        (dash,) = re.findall(r'class="l c\d (d\d)"', sample(slot))
        looks.add((drawn, dash))
    assert len(looks) == 8 and len(SHAPES) == 7
    assert dash_rules().count("stroke-dasharray") == 4


def test_thinning_keeps_ends_and_peaks() -> None:
    x = np.arange(1000.0)
    y = np.sin(x / 50)
    y[437] = 9.0
    kept = thinned(x, y, 60)
    assert len(kept) == 60 and kept[0] == 0 and kept[-1] == 999 and 437 in kept
    assert (np.diff(kept) > 0).all()
    assert thinned(x[:40], y[:40], 60).tolist() == list(range(40))


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 8))
def test_ticks_are_even_and_inside(low: float, size: float, most: int) -> None:
    high = low + size
    found = ticks(low, high, most)
    assert 1 <= len(found) <= most
    slack = 1e-6 * max(size, abs(low) * 1e-6)
    assert all(low - slack <= t <= high + slack for t in found)
    if len(found) > 2:
        assert np.ptp(np.diff(found)) <= 1e-6 * size + 1e-9 * abs(low)


@given(st.text(max_size=400))
def test_names_are_cut_and_cannot_be_markup(text: str) -> None:
    assert len(cut(text)) <= LONGEST
    shown = re.sub(r"<wbr>|</?bdi>", "", name(text))
    assert "<" not in shown and ">" not in shown and '"' not in shown
    assert unescape(shown) == cut(text)
    assert not any(ord(c) < 32 for c in shown)


def test_digits_and_units() -> None:
    assert [digits(e) for e in (0.034, 0.0034, 0.2, 3.0, 0.0, float("nan"))] == [3, 4, 2, 2, 4, 4]
    assert [short(v) for v in (4e12, 2.5e9, 983_040, 12)] == ["4T", "2.5B", "983k", "12"]


INTERACT = """<iframe src="page.html" style="width:1200px;height:900px;border:0"></iframe>
<iframe src="page.html" style="width:360px;height:800px;border:0"></iframe><script>
onload = () => setTimeout(() => {
  const page = frames[0].document, root = page.documentElement, out = {};
  const { KeyboardEvent: Key, Event } = frames[0];
  const key = (at, key) => at.dispatchEvent(new Key("keydown", { key, bubbles: true }));
  out.ready = root.dataset.ready;
  const phone = frames[1].document.documentElement;
  out.phone = [phone.scrollWidth, phone.clientWidth];
  const ground = () => frames[0].getComputedStyle(page.body).backgroundColor;
  const theme = page.getElementById("theme"), grounds = [ground()];
  for (let k = 0; k < 3; k++) { theme.click(); grounds.push(ground()); }
  out.grounds = grounds;
  const figure = page.querySelector("figure");
  figure.focus(); key(figure, "End");
  out.tip = [...page.querySelectorAll(".tip div")].map((e) => e.textContent);
  key(figure, "Escape"); out.gone = page.querySelector(".tip") === null;
  const details = figure.querySelector("details");
  details.open = true;
  const legend = page.querySelector(".legend button");
  legend.click();
  const lines = [...page.querySelectorAll('.chart [data-s="0"]')];
  out.hidden = lines.length && lines.every((e) => e.style.display === "none");
  const filter = page.getElementById("filter");
  filter.value = "FAMILY1:"; filter.dispatchEvent(new Event("input"));
  out.figures = [...page.querySelectorAll("figure")].filter((e) => !e.hidden).length;
  out.rows = [...page.querySelectorAll(".scores tbody tr")].filter((e) => !e.hidden).length;
  out.stray = page.querySelectorAll("img, textarea").length;
  setTimeout(() => {
    out.values = [...details.querySelectorAll("td")].map((e) => e.textContent);
    document.body.textContent = JSON.stringify(out);
  }, 100);
}, 500);</script>"""


@needs_chromium
def test_in_a_browser(tmp_path: Path) -> None:
    table = long_table(runs=2, steps=3, tasks=3)
    table["run"] = table["run"].replace("run0", HOSTILE)
    write_report_of(table, tmp_path)
    (tmp_path / "harness.html").write_text(INTERACT)
    document, console = browse(tmp_path / "harness.html", tmp_path / "profile")
    assert console == []
    out = json.loads(unescape(document.split("<body>")[1].split("</body>")[0]))
    assert out["ready"] == "true" and out["phone"] == [360, 360]
    # auto, light, dark and auto again.
    white, black = "rgb(255, 255, 255)", "rgb(20, 23, 26)"
    assert out["grounds"] == [white, white, black, white]
    last = table[(table["task"] == "family0:rc:5shot") & (table["step"] == 3000)]
    assert out["tip"][0] == "3B tokens"
    shown = [f"{v:.3f} ± 0.024" for v in last["value"]]
    assert [line.endswith(v) for line, v in zip(out["tip"][1:], shown, strict=True)] == [True, True]
    assert HOSTILE[:20] in out["tip"][1]
    assert out["gone"] and out["hidden"] and len(out["values"]) == 6 and shown[0] in out["values"]
    assert (out["figures"], out["rows"], out["stray"]) == (1, 1, 0)


@needs_chromium
def test_a_hundred_checkpoints_of_eighty_tasks_are_small_and_open_quickly(tmp_path: Path) -> None:
    table = long_table(runs=4, steps=25, tasks=80)
    page = write_report_of(table, tmp_path)
    assert page.stat().st_size < 5_000_000
    (tmp_path / "blank.html").write_text("<!DOCTYPE html><title>blank</title>")

    def seconds(path: Path) -> float:
        """CPU time of all processes of the browser."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        document, console = browse(path, tmp_path / "profile", budget=None)
        assert console == [] and "</html>" in document
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    seconds(tmp_path / "blank.html")  # a first start writes the profile
    assert seconds(page) - seconds(tmp_path / "blank.html") < 2.0


def write_report_of(table: pd.DataFrame, folder: Path) -> Path:
    table.to_parquet(folder / "table.parquet")
    return write_report([folder / "table.parquet"], folder / "page.html").page
