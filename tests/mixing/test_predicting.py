"""A saved fit on other mixtures: predictions, their scores, and tables that do not belong to it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import mean_absolute_error, r2_score

from olmeval.cli.olmix import cli
from olmeval.errors import UserError
from olmeval.mixing.fitting import MixtureFit, fit_swarm, load_fit
from olmeval.mixing.predicting import predict_rows, rank_interval
from olmeval.mixing.tables import read_swarm

Array = NDArray[np.float64]
TARGETS = ["eval/x/bpb", "eval/y/bpb", "eval/z/bpb"]


def written(folder: Path, name: str, table: pd.DataFrame) -> Path:
    folder.mkdir(exist_ok=True)
    table.to_csv(folder / name, index_label="run")
    return folder / name


def tables(X: Array, Y: Array) -> tuple[pd.DataFrame, pd.DataFrame]:
    runs = [f"r{k}" for k in range(len(X))]
    ratios = pd.DataFrame(X, columns=list("abcde"), index=runs)
    return ratios, pd.DataFrame(Y, columns=TARGETS, index=runs)


@pytest.fixture
def noisy(planted: tuple[Array, ...]) -> tuple[Array, Array]:
    X, Y = planted[:2]
    return X, Y + np.random.default_rng(1).normal(0, 0.2, Y.shape)


@pytest.fixture
def fit(noisy: tuple[Array, Array], tmp_path: Path) -> MixtureFit:
    """On the first 40 mixtures."""
    ratios, metrics = tables(noisy[0][:40], noisy[1][:40])
    swarm = read_swarm(
        written(tmp_path / "old", "ratios.csv", ratios),
        written(tmp_path / "old", "metrics.csv", metrics),
    )
    return fit_swarm(swarm, curve=False)


def test_scores_are_those_of_other_libraries(
    fit: MixtureFit, noisy: tuple[Array, Array], tmp_path: Path
) -> None:
    X, Y = noisy[0][40:], noisy[1][40:]
    ratios, metrics = tables(X, Y)
    path = written(tmp_path, "ratios.csv", ratios)
    found = predict_rows(fit, path, written(tmp_path, "metrics.csv", metrics))
    order = np.argsort(ratios.index)
    assert (
        found.runs == tuple(sorted(ratios.index))
        and (found.predicted == fit.predict(X[order])).all()
    )
    for j, score in enumerate(found.scores):
        y, p = Y[order, j], found.predicted[:, j]
        assert score.rank_correlation == pytest.approx(spearmanr(p, y)[0])
        assert score.r2 == pytest.approx(r2_score(y, p)) and score.runs == 20
        assert score.mae == pytest.approx(mean_absolute_error(y, p))
        assert score.bias == pytest.approx((y - p).mean())
        inside = (found.low[:, j] <= y) & (y <= found.high[:, j])
        assert score.covered == inside.mean() and inside.mean() > 0.7
    cost, promised = Y[order].mean(axis=1), found.predicted.mean(axis=1)
    assert found.mean is not None and found.choice is not None
    assert found.mean.rank_correlation == pytest.approx(spearmanr(promised, cost)[0])
    assert found.choice.run == found.runs[promised.argmin()]
    assert found.choice.regret == pytest.approx(cost[promised.argmin()] - cost.min())
    assert found.choice.place == 1 + (cost < cost[promised.argmin()]).sum()
    alone = predict_rows(fit, path)
    assert (alone.predicted == found.predicted).all() and alone.scores == () and alone.mean is None


def test_order_of_rows_and_columns_does_not_matter(
    fit: MixtureFit, noisy: tuple[Array, Array], tmp_path: Path
) -> None:
    ratios, metrics = tables(noisy[0][40:], noisy[1][40:])
    first = predict_rows(
        fit, written(tmp_path, "r.csv", ratios), written(tmp_path, "m.csv", metrics)
    )
    other = predict_rows(
        fit,
        written(tmp_path, "r.csv", ratios.iloc[::-1, [3, 0, 4, 2, 1]]),
        written(tmp_path, "m.csv", metrics.sample(frac=1, random_state=0).iloc[:, ::-1]),
    )
    pd.testing.assert_frame_equal(first.frame(), other.frame(), check_exact=True)
    assert first.scores == other.scores and first.choice == other.choice


def test_missing_scores_and_more_is_better(noisy: tuple[Array, Array], tmp_path: Path) -> None:
    X, Y = noisy
    ratios, metrics = tables(X, Y)
    metrics["eval/z/bpb"] = 20 - metrics["eval/z/bpb"]
    rows = written(tmp_path, "r.csv", ratios), written(tmp_path, "m.csv", metrics)
    fit = fit_swarm(read_swarm(*rows, higher=["eval/z/bpb"]), curve=False)
    metrics.iloc[3:, 0] = np.nan
    found = predict_rows(fit, rows[0], written(tmp_path, "m.csv", metrics.drop(columns=TARGETS[1])))
    assert [(s.target, s.runs) for s in found.scores] == [(TARGETS[0], 3), (TARGETS[2], 60)]
    assert found.scores[0].rank_interval is None
    assert found.scores[1].rank_correlation is not None and found.scores[1].rank_correlation > 0.9
    assert found.mean is not None and found.mean.runs == 3
    assert any("lacks 'eval/y/bpb'" in note for note in found.notes)
    assert found.seen == 60 and any(
        "60 of the mixtures are runs of the fit" in n for n in found.notes
    )


def test_tables_that_do_not_belong(
    fit: MixtureFit, noisy: tuple[Array, Array], tmp_path: Path
) -> None:
    ratios, metrics = tables(noisy[0][40:], noisy[1][40:])
    good = written(tmp_path, "good.csv", ratios)
    scores = written(tmp_path, "m.csv", metrics)

    def refused(path: Path, measured: Path | None, sentence: str) -> None:
        with pytest.raises(UserError, match=sentence):
            predict_rows(fit, path, measured)

    refused(
        written(tmp_path, "r.csv", ratios.rename(columns={"e": "ee"})), None,
        "has no column 'e', a domain of the fit; did you mean 'ee'",
    )  # fmt: skip
    half = ratios.assign(f=ratios.e / 2, e=ratios.e / 2)
    refused(written(tmp_path, "r.csv", half), None, "'f' is no domain of the fit")
    refused(written(tmp_path, "r.csv", 100 * ratios), None, "add up to 100.0000, not 1")
    refused(good, written(tmp_path, "n.csv", metrics.add_suffix("2")), "has no target of the fit")
    other = metrics.set_axis([f"q{k}" for k in range(20)])
    refused(good, written(tmp_path, "n.csv", other), "no run of '.*' has the score of a target")
    none = written(tmp_path, "r.csv", ratios.assign(f=0.0))
    assert any("unknown to the fit" in note for note in predict_rows(fit, none, scores).notes)
    (tmp_path / "evidence.json").write_text('{"fingerprints": {"a": "2"}}')
    marked = MixtureFit(**vars(fit) | {"table": fit.table.__class__(
        **vars(fit.table) | {"contents": {"a": "1"}})})  # fmt: skip
    with pytest.raises(UserError, match="other contents of a"):
        predict_rows(marked, good, scores)


def invoke(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_command(fit: MixtureFit, noisy: tuple[Array, Array], tmp_path: Path) -> None:
    fit.save(tmp_path / "fit")
    ratios, metrics = tables(noisy[0][40:], noisy[1][40:])
    rows = written(tmp_path, "r.csv", ratios), written(tmp_path, "m.csv", metrics)
    shown = invoke("predict", tmp_path / "fit", *rows, "--output", tmp_path / "p.csv")
    assert "20 mixtures, 20 of them measured" in shown.stdout
    assert "Mean rank correlation of 3 targets: 0." in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 120
    kept = pd.read_csv(tmp_path / "p.csv")
    assert list(kept) == ["run", "target", "predicted", "low", "high", "measured"]
    found = predict_rows(load_fit(tmp_path / "fit"), *rows)
    assert np.allclose(kept.predicted, found.predicted.reshape(-1), rtol=1e-14)
    value = json.loads(invoke("predict", tmp_path / "fit", *rows, "--json").stdout)
    assert value["scores"][0]["rank_correlation"] == found.scores[0].rank_correlation
    assert len(value["predictions"]) == 60 and value["choice"]["runs"] == 20
    bare = invoke("predict", tmp_path / "fit", rows[0])
    assert "nothing measured" in bare.stdout
    wide = invoke("predict", tmp_path / "fit", *rows, "--level", "0.99", "--json")
    assert json.loads(wide.stdout)["scores"][0]["covered"] is None  # 40 runs give no 99 %.
    with pytest.raises(UserError, match="lies between 0 and 1"):
        invoke("predict", tmp_path / "fit", *rows, "--level", "95")


def test_fit_of_means(noisy: tuple[Array, Array], tmp_path: Path) -> None:
    ratios, metrics = tables(*noisy)
    rows = written(tmp_path, "r.csv", ratios), written(tmp_path, "m.csv", metrics)
    both = ("--group", "both=eval/x/bpb,eval/y/bpb")
    invoke("fit", *rows, "--output", tmp_path / "fit", "--no-curve", *both)
    with pytest.raises(UserError, match="has no target of the fit: there is no 'both'"):
        invoke("predict", tmp_path / "fit", *rows)
    value = json.loads(invoke("predict", tmp_path / "fit", *rows, *both, "--json").stdout)
    mean = metrics[TARGETS[:2]].mean(axis=1).sort_index()
    measured = [row["measured"] for row in value["predictions"]]
    assert np.allclose(measured, mean) and value["scores"][0]["rank_correlation"] > 0.8


def test_rank_interval_covers() -> None:
    """Normal pairs of correlation r have Spearman's rho 6 / pi asin(r / 2) (Pearson 1907)."""
    rng = np.random.default_rng(0)
    for r, runs in ((0.0, 20), (0.8, 40), (0.97, 250)):
        rho, inside = 6 / np.pi * np.arcsin(r / 2), 0
        for _ in range(400):
            a = rng.normal(size=runs)
            b = r * a + np.sqrt(1 - r**2) * rng.normal(size=runs)
            ends = rank_interval(float(spearmanr(a, b)[0]), runs)
            inside += ends is not None and ends[0] <= rho <= ends[1]
        assert 0.92 <= inside / 400 <= 0.985, r
    assert rank_interval(0.5, 3) is None and rank_interval(1.0, 30) is None
