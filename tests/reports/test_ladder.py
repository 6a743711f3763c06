"""The scaling-law report: the page has what the JSON has, and a figure for every chart."""

import json
import re

import numpy as np
import pytest

from olmeval.ladders.curves import Ladder
from olmeval.ladders.forecast import LadderForecast
from olmeval.ladders.predict import Scale
from olmeval.ladders.spec import LadderFile
from olmeval.reports.ladder import write_ladder_report
from tests.ladders.conftest import made_ladder
from tests.ladders.test_forecast import TRUTH

SIZES = (1.9e8, 3.7e8, 7.6e8, 1.28e9)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, object]]:
    """Page and numbers of a ladder whose target has been trained, with a name that is not HTML."""
    names = ("<b>bold</b>", "plain")
    file = LadderFile.model_validate({
        "name": "made & sold", "flops": "6nd", "features": {"bpb": {"metric": "bits_per_byte"}},
        "tasks": {name: {"chance": 0.25} for name in names},
        "targets": {"big": {"params": 3_200_000_000, "tokens": 640_000_000_000,
                            "run": "3.2e+09-10x"}},
    })  # fmt: skip
    curves = {(name, "bpb"): made_ladder(*TRUTH, 0.005, i, name) for i, name in enumerate(names)}
    rungs = tuple(r.run for r in curves["plain", "bpb"].runs if r.params in SIZES)
    ladder = Ladder(file, curves, rungs)
    made = LadderForecast(samples=30).fit({"bpb": [ladder.fitted(n, "bpb") for n in names]})
    scale = Scale(3.2e9, 6.4e11, 6 * 3.2e9 * 6.4e11, "big")
    path = tmp_path_factory.mktemp("report") / "ladder.html"
    page, numbers = write_ladder_report(ladder, made, [scale], path)
    return page.read_text(), json.loads(numbers.read_text())


def test_numbers_have_predictions_fits_and_back_tests(written: tuple[str, dict]) -> None:  # type: ignore[type-arg]
    _, numbers = written
    assert numbers["format"] == "olmeval-ladder-report/1"
    (target,) = numbers["targets"]
    assert {(p["task"], p["quantity"]) for p in target["predictions"]} == {
        ("<b>bold</b>", "accuracy"), ("<b>bold</b>", "loss:bpb"),
        ("plain", "accuracy"), ("plain", "loss:bpb"),
    }  # fmt: skip
    for p in target["predictions"]:
        assert p["low"] < p["value"] < p["high"]
        assert p["error"] == pytest.approx(p["value"] / p["actual"] - 1)
    assert len(numbers["fits"]) == 2 * 3
    back = numbers["back_test"]["accuracy"]
    assert (back["nominal"], back["tests"], len(back["rows"])) == (0.95, 6, 6)
    assert sum(back["weights"].values()) == pytest.approx(1)


def test_every_chart_has_its_figure_with_finite_numbers(written: tuple[str, dict]) -> None:  # type: ignore[type-arg]
    page, _ = written
    found = re.search(r'<script type="application/json" id="charts">(.*?)</script>', page, re.S)
    assert found is not None
    figures = json.loads(found[1])
    assert len(figures) == page.count('class="plot"') == 2 * 4
    for figure in figures:
        for trace in figure["data"]:
            assert np.isfinite(trace["x"]).all() and np.isfinite(trace["y"]).all()
            assert set(trace["meta"]) >= {"color", "series"}


def test_the_page_says_errors_coverage_and_formulas(written: tuple[str, dict]) -> None:  # type: ignore[type-arg]
    page, numbers = written
    visible = page.split("<script")[0]
    assert "<b>bold</b>" not in visible and "&lt;b&gt;bold" in visible
    assert "made &amp; sold" in visible
    assert "big: mean error" in visible
    assert "Back-test of accuracy: the nominal 95% held" in visible
    assert "L = e^a / N^alpha + e^b / D^beta + E" in visible
    for line in numbers["warnings"]:
        assert line.split(": ", 1)[1] in visible
