"""One model, one set of tasks after another: where each goes, and what stays refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmeval.backends.base import ModelInfo
from olmeval.engine.evaluate import evaluate, evaluate_many
from olmeval.engine.folder import RunFolder
from olmeval.engine.place import find_place, moves
from olmeval.engine.settings import Settings
from olmeval.engine.work import load_work
from olmeval.errors import UserError
from olmeval.results.run import find_runs, joined, long_table
from olmeval.results.table import load_table
from tests.conftest import make_checkpoint
from tests.engine.private_tasks import write_boxes

CPU = Settings(device="cpu")
FILES = ("metrics.json", "responses.parquet", "instances.parquet", "requests.parquet")


def question(*tasks: str, limit: int | None = None, **more: Any) -> dict[str, Any]:
    """What ``asked`` of a ``run.json`` holds; a hash follows from the task and the limit."""
    hashes = {task: f"{task}@{limit}" for task in tasks}
    asked = {"fingerprint": "w", "tasks": hashes, "suites": [], "limit": limit, "dtype": "auto"}
    return {**asked, **more}


def ask(output: Path, asked: dict[str, Any], name: str = "m") -> tuple[str, str | None]:
    """Takes the place of a question as a run does: its folder, and the run's name there."""
    place = find_place(output, name, name, asked)
    place.path.mkdir(parents=True, exist_ok=True)
    value = {"asked": asked, "model": {"name": name}}
    (place.path / "run.json").write_text(json.dumps(value))
    return place.path.name, place.run


def test_the_first_folder_that_is_free_or_holds_the_question(tmp_path: Path) -> None:
    x, y, z = question("x"), question("y"), question("x", "z")
    assert [ask(tmp_path, q)[0] for q in (x, y, z)] == ["m", "m-2", "m-3"]
    assert [ask(tmp_path, q)[0] for q in (z, x, y)] == ["m-3", "m", "m-2"]
    assert ask(tmp_path, question("x", suites=["s"]))[0] == "m-4"
    assert ask(tmp_path, question("x", limit=5))[0] == "m-5"
    # A folder that was deleted is free.
    shutil.rmtree(tmp_path / "m-2")
    assert ask(tmp_path, question("v"))[0] == "m-2"


def test_only_another_limit_makes_another_run_of_the_long_table(tmp_path: Path) -> None:
    asked = [question("x", limit=5), question("y", limit=5), question("x"), question("y")]
    asked += [question("x", limit=0.1), question("z", limit=5)]
    names = [ask(tmp_path, q)[1] for q in asked]
    assert names == [None, "m", "m-full", "m-full", "m-limit0.1", "m"]
    assert [ask(tmp_path, q)[1] for q in asked] == names


def test_what_is_not_of_this_model_is_passed_by(tmp_path: Path) -> None:
    x = question("x")
    assert ask(tmp_path, {**x, "fingerprint": "v"}, "m-2")[0] == "m-2"
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "run.json").write_text('{"recipe": {}}')  # a training's
    assert ask(tmp_path, x) == ("m-3", "m")
    place = find_place(tmp_path, "m", "m", question("y"))
    assert place.path.name == "m-4"
    assert moves([place]) == (
        f"the run is in '{tmp_path / 'm-4'}', since '{tmp_path / 'm'}' is not a run of this model"
    )
    with pytest.raises(UserError, match=r"is not a run of this model; choose another --output"):
        find_place(tmp_path, "m", "m", x, beside=False)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (question("x", fingerprint="v"), "other weights under the same name"),
        (question("y", fingerprint="v"), "other weights under the same name"),
        (question("x", dtype="float32"), "dtype = auto instead of float32"),
        (question("y", dtype="float32"), "dtype = auto instead of float32"),
        (question("x", program_env="env"), "program_env = None instead of env"),
        (question("x", tasks={"x": "new"}), "another definition, of the task 'x'"),
        (question("x", tasks={"x": "new", "y": "y"}), "another definition, of the task 'x'"),
    ],
)
def test_what_stays_refused(tmp_path: Path, asked: dict[str, Any], sentence: str) -> None:
    ask(tmp_path, question("x"))
    with pytest.raises(UserError, match=sentence) as error:
        ask(tmp_path, asked)
    assert "choose another --output" in str(error.value) and f"'{tmp_path / 'm'}'" in str(error)


def test_a_setting_that_is_no_longer_given_is_named(tmp_path: Path) -> None:
    ask(tmp_path, question("x", program_env="env"))
    with pytest.raises(UserError, match="program_env = env instead of None"):
        ask(tmp_path, question("x"))


def test_the_reason_in_words(tmp_path: Path) -> None:
    ask(tmp_path, question("x", "y", limit=5))

    def why(*tasks: str, **more: Any) -> str:
        return find_place(tmp_path, "m", "m", question(*tasks, **more)).why

    assert why("z", limit=5) == "holds other tasks: x and 1 more"
    assert why("y", limit=5) == "holds other tasks: x"
    assert why("x", "y", "z", limit=5) == "holds only x and 1 more"
    assert why("x", "y") == "holds the same tasks with --limit 5"
    assert why("x", "y", limit=5, suites=["s"]) == "holds the same tasks in other suites"
    with pytest.raises(UserError, match="holds other tasks: x and 1 more; choose another --output"):
        find_place(tmp_path, "m", "m", question("z"), beside=False)


questions = st.builds(
    lambda tasks, limit: question(*sorted(tasks), limit=limit),
    st.sets(st.sampled_from("abc"), min_size=1), st.sampled_from([None, 2, 3]),
)  # fmt: skip


@given(asked=st.lists(questions, max_size=8))
def test_every_question_has_one_folder_for_good(
    asked: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    output = tmp_path_factory.mktemp("places")
    folders = [ask(output, q) for q in asked]
    assert [ask(output, q) for q in asked] == folders
    distinct = {json.dumps(q) for q in asked}
    assert len({folder for folder, _ in folders}) == len(distinct) == len(list(output.iterdir()))
    # What one run of the table holds of a task is one set of questions.
    hashes: dict[tuple[str, str], set[str]] = {}
    for q, (_, run) in zip(asked, folders, strict=True):
        for task, value in q["tasks"].items():
            hashes.setdefault((run or "m", task), set()).add(value)
    assert all(len(found) == 1 for found in hashes.values())


@pytest.fixture(scope="module")
def task_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes(tmp_path_factory.mktemp("tasks"), 40)


def test_of_two_that_found_one_folder_free_one_gets_it(task_dir: Path, tmp_path: Path) -> None:
    info = ModelInfo("m", "m", "w", None, None, 64)
    work = load_work(["boxes:rc"], None, [task_dir])
    other = load_work(["boxes:bpb"], None, [task_dir])
    first = RunFolder.open(tmp_path, info, question("x"))
    second = RunFolder.open(tmp_path, info, question("y"))
    assert first.path == second.path
    assert first.begin(work, "t") and not second.begin(other, "t")
    again = RunFolder.open(tmp_path, info, question("y"))
    assert again.path.name == "m-2" and again.begin(other, "t")
    assert json.loads((tmp_path / "m" / "run.json").read_text())["asked"] == question("x")


def test_one_checkpoint_asked_twice(checkpoint: Path, task_dir: Path, tmp_path: Path) -> None:
    def run(*specs: str, **more: Any) -> Any:
        return evaluate(
            checkpoint, specs, output=tmp_path / "runs", settings=CPU, task_paths=[task_dir], **more
        )

    first = run("boxes:rc", "boxes:mc")
    second = run("boxes:mc", "boxes:bpb")
    third = run("boxes:rc", "boxes:mc", limit=7)
    assert [r.path.name for r in (first, second, third)] == ["tiny", "tiny-2", "tiny-3"]
    assert [r.name for r in (first, second, third)] == ["tiny", "tiny", "tiny-limit7"]
    ended = second.info["finished"]
    assert run("boxes:mc", "boxes:bpb").info["finished"] == ended
    with pytest.raises(UserError, match="holds other tasks"):
        run("boxes:bpb", beside=False)
    with pytest.raises(UserError, match="max_new_tokens = None instead of 3"):
        evaluate(checkpoint, ["boxes:bpb"], output=tmp_path / "runs", task_paths=[task_dir],
                 settings=Settings(device="cpu", max_new_tokens=3))  # fmt: skip

    # The table holds every score once: what both folders hold is equal, and the limited are apart.
    table = load_table([tmp_path / "runs"])
    full = table[table["run"] == "tiny"]
    tasks = {f"boxes:{f}:0shot" for f in ("rc", "mc", "bpb")}
    assert set(full["task"]) == tasks and set(full["n"]) == {40}
    assert set(table[table["run"] == "tiny-limit7"]["n"]) == {7}
    assert len(table) == len(long_table(find_runs([tmp_path / "runs"])))

    whole, limited = joined(find_runs([tmp_path / "runs"]))
    assert limited.path == third.path and set(whole.metrics["tasks"]) == tasks == set(
        whole.info["tasks"]
    )
    instances = whole.instances()
    assert set(instances.groupby(["task", "metric"]).size()) == {40}
    alone = evaluate(checkpoint, ["boxes:rc", "boxes:mc", "boxes:bpb"], output=tmp_path / "alone",
                     settings=CPU, task_paths=[task_dir])  # fmt: skip
    assert whole.metrics["tasks"] == alone.metrics["tasks"]
    rows = [sorted(map(str, run.table().to_numpy().tolist())) for run in (whole, alone)]
    assert rows[0] == rows[1]


def test_steps_of_a_run_keep_their_names(
    tokenizer_dir: Path, task_dir: Path, tmp_path: Path
) -> None:
    for step in (1, 2):
        folder = make_checkpoint(tmp_path / "mine" / f"step{step}", tokenizer_dir, seed=step)
        facts = {"run": "mine", "step": step, "seed": 0}
        (folder / "checkpoint.json").write_text(json.dumps(facts))
    for spec in ("boxes:rc", "boxes:bpb"):
        runs = evaluate_many([tmp_path / "mine"], [spec], output=tmp_path / "runs", settings=CPU,
                             task_paths=[task_dir])  # fmt: skip
    assert [run.path.name for run in runs] == ["mine-step1-2", "mine-step2-2"]
    table = load_table([tmp_path / "runs"])
    assert set(table["run"]) == {"mine"} and len(joined(find_runs([tmp_path / "runs"]))) == 2
    assert set(table.groupby("step")["task"].nunique()) == {2}


def olmeval(*words: str, cwd: Path, **more: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "olmeval.cli.main", *words], cwd=cwd, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **more},
    )  # fmt: skip


def test_the_command_killed_beside_another_and_at_once(
    checkpoint: Path, task_dir: Path, tmp_path: Path
) -> None:
    """Two commands at once on a third one's folder; one is killed and given again."""
    words = ["run", "--model", str(checkpoint), "--task-path", str(task_dir), "--device", "cpu"]
    evaluate(checkpoint, ["boxes:rc"], output=tmp_path / "runs", settings=CPU,
             task_paths=[task_dir])  # fmt: skip
    by_spec = {spec: [*words, "--tasks", spec, "--json"] for spec in ("boxes:mc", "boxes:bpb")}
    stores = {spec: {"OLMEVAL_STORE": str(tmp_path / f"store{k}")} for k, spec in
              enumerate(by_spec)}  # fmt: skip
    started = {s: olmeval(*line, cwd=tmp_path, **stores[s]) for s, line in by_spec.items()}
    victim = "boxes:bpb"
    while not (folders := folders_of(tmp_path / "runs", victim)):
        assert started[victim].poll() is None
        time.sleep(0.01)
    os.kill(started[victim].pid, signal.SIGKILL)
    started[victim].communicate()
    out, err = started["boxes:mc"].communicate()
    assert started["boxes:mc"].returncode == 0, err
    again = olmeval(*by_spec[victim], cwd=tmp_path, **stores[victim])
    killed_out, killed_err = again.communicate()
    assert again.returncode == 0, killed_err
    assert folders_of(tmp_path / "runs", victim) == folders
    places = {json.loads(text)[0]["folder"] for text in (out, killed_out)}
    assert places == {"runs/tiny-2", "runs/tiny-3"}
    for text, said in ((out, err), (killed_out, killed_err)):
        place = json.loads(text)[0]["folder"]
        assert f"the run is in '{place}', since 'runs/tiny' holds other tasks: boxes:rc" in said
    for spec in by_spec:
        whole = evaluate(checkpoint, [spec], output=tmp_path / "alone" / spec[6:], settings=CPU,
                         task_paths=[task_dir], store=tmp_path / "another")  # fmt: skip
        (place,) = folders_of(tmp_path / "runs", spec)
        for name in FILES:
            assert (whole.path / name).read_bytes() == (place / name).read_bytes()


def folders_of(output: Path, spec: str) -> list[Path]:
    """The run folders that hold ``spec``."""
    return [
        file.parent
        for file in sorted(output.glob("*/run.json"))
        if f"{spec}:0shot" in json.loads(file.read_text())["asked"]["tasks"]
    ]
