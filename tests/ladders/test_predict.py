"""Scales in their conventions, and rows that tasks share."""

import pytest

from olmeval.errors import UserError
from olmeval.ladders.forecast import Prediction
from olmeval.ladders.predict import Measured, open_ladder, scales, shared_once
from olmeval.ladders.spec import LadderFile, load_ladder


def test_compute_follows_the_convention_of_the_file() -> None:
    file, _ = load_ladder("olmo2-2024")
    (known,) = scales(file, params=3169537280, tokens=1e12)
    assert known.flops == pytest.approx(22970355200 * 1e12)
    (given,) = scales(file, params=5e9, tokens=1e12, flops_per_token=4e10)
    assert given.flops == pytest.approx(4e22)
    with pytest.raises(UserError, match="--flops-per-token for 5e\\+09 parameters"):
        scales(file, params=5e9, tokens=1e12)
    (approximate,) = scales(LadderFile(name="x", flops="6nd"), params=5e9, tokens=1e12)
    assert approximate.flops == pytest.approx(3e22)


def test_all_targets_are_meant_without_names() -> None:
    file, _ = load_ladder("olmo2-2024")
    assert [scale.target for scale in scales(file)] == ["7B-4T", "13B-5T"]
    assert [scale.target for scale in scales(file, ["13B-5T"])] == ["13B-5T"]
    with pytest.raises(UserError, match="has no targets"):
        scales(LadderFile(name="x"))


def test_a_ladder_without_files_wants_tables(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "x.yaml"
    path.write_text("name: x\nfeatures: {l: {metric: m}}\ntasks: {t: {accuracy: null}}\n")
    with pytest.raises(UserError, match="names no files under 'data'; give tables"):
        open_ladder(path, data=tmp_path)


def test_a_loss_that_tasks_share_is_shown_once() -> None:
    def row(task: str, quantity: str, value: float) -> Measured:
        return Measured(Prediction(task, quantity, value, 0.0, 1.0, 0.1, 0.1, {}), None)

    rows = [row("a", "accuracy", 0.5), row("b", "accuracy", 0.6),
            row("a", "loss:c4", 2.5), row("b", "loss:c4", 2.5)]  # fmt: skip
    shown = [(m.prediction.task, m.prediction.quantity) for m in shared_once(rows)]
    assert shown == [("a", "accuracy"), ("b", "accuracy"), ("(all)", "loss:c4")]
    assert shared_once(rows[2:3])[0].prediction.task == "a"
