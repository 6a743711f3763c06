"""Verdicts on disk: what decides a key, several writers at once, and writers that are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from olmeval.errors import UserError
from olmeval.sandbox import cache
from olmeval.sandbox.cache import VerdictCache, judge_cached, key_of
from olmeval.sandbox.tiers import probe
from olmeval.sandbox.toolchains import Tool
from olmeval.sandbox.types import Limits
from olmeval.sandbox.verdict import Program, Verdict

PROGRAM = Program("def f(): return 1", "\nassert f() == 1")
PASSED = Verdict(
    "passed", "strict", "passed", "passed", asserts=1, stdout="a\n\tb\u2028", tier="T1"
)


def test_a_key_holds_all_that_decides(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").write_text("home = /usr")
    variants = [
        PROGRAM,
        replace(PROGRAM, program="def f(): return 2"),
        replace(PROGRAM, tests="\nassert f() == 2"),
        replace(PROGRAM, prompt="def f(): "),
        replace(PROGRAM, form="unittest"),
        replace(PROGRAM, strict=False),
        replace(PROGRAM, limits=Limits(seconds=4.0)),
        replace(PROGRAM, environment=str(tmp_path)),
    ]
    keys = [key_of(p, tier) for p in variants for tier in ("T1", "T2")]
    os.utime(tmp_path / "pyvenv.cfg", (1, 1))
    keys.append(key_of(variants[-1], "T1"))
    # A package is installed, which the program lacked.
    packages = tmp_path / "lib/python3.11/site-packages"
    for folder in (packages, packages / "numpy"):
        folder.mkdir(parents=True)
        keys.append(key_of(variants[-1], "T1"))
    assert len(set(keys)) == len(keys)
    assert key_of(PROGRAM, "T1") == keys[0]


@pytest.mark.skipif(probe().name == "T3", reason="nothing here can contain a program")
def test_half_a_surrogate_pair_has_a_key(tmp_path: Path) -> None:
    odd = replace(PROGRAM, program="x = '\ud800'")
    assert key_of(odd, "T1") != key_of(replace(odd, program="x = '\ud801'"), "T1")
    [verdict] = judge_cached([odd], store=VerdictCache(tmp_path), workers=1)
    assert verdict.status == "failed"


def test_another_toolchain_is_another_key(tmp_path: Path, monkeypatch) -> None:
    tool = tmp_path / "bash"
    tool.write_text("5.1")
    monkeypatch.setattr(cache.toolchains, "find", lambda _: Tool(str(tool)))
    before = cache.state_of_toolchain("sh")
    assert cache.state_of_toolchain("sh") == before != []
    tool.write_text("5.2.21")
    assert cache.state_of_toolchain("sh") != before


def test_a_corrected_runner_is_another_key(monkeypatch) -> None:
    before = key_of(PROGRAM, "T1")
    monkeypatch.setattr(cache, "runners_hash", lambda: "corrected")
    assert key_of(PROGRAM, "T1") != before


def test_what_is_put_is_found_and_a_jail_that_failed_is_not(tmp_path: Path) -> None:
    store = VerdictCache(tmp_path)
    key, other = key_of(PROGRAM, "T1"), key_of(PROGRAM, "T2")
    store.put({key: PASSED, other: replace(PASSED, strict="infrastructure")})
    assert store.get([key, other, "0" * 64]) == {key: PASSED}
    # The last word counts.
    later = replace(PASSED, status="failed", strict="failed")
    store.put({key: later})
    assert VerdictCache(tmp_path).get([key]) == {key: later}


def test_a_torn_or_changed_line_is_passed_over(tmp_path: Path) -> None:
    store = VerdictCache(tmp_path)
    keys = [f"ab{k:062d}" for k in range(4)]
    store.put({keys[0]: PASSED})
    path = tmp_path / "ab.jsonl"
    whole = path.read_bytes()
    for cut in range(1, len(whole) - 1, 7):
        # Whatever a killed writer left behind, the next one's lines are whole.
        path.write_bytes(whole + whole.replace(keys[0].encode(), keys[1].encode())[:cut])
        store.put({keys[2]: PASSED})
        assert store.get(keys) == {keys[0]: PASSED, keys[2]: PASSED}
    path.write_bytes(whole.replace(b'"passed"', b'"failed"'))
    assert store.get(keys) == {}


WRITER = """
import sys
from pathlib import Path
from olmeval.sandbox.cache import VerdictCache
from olmeval.sandbox.verdict import Verdict
store, name = VerdictCache(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
for number in range(10**9 if name == "killed" else 150):
    verdict = Verdict("passed", "strict", "passed", "passed", stdout=name * 50, asserts=number)
    store.put({f"ab{number:030d}{name:>32}".replace(" ", "0"): verdict})
"""


def test_writers_at_once_and_a_killed_one_lose_nothing_of_the_others(tmp_path: Path) -> None:
    names = ["one", "two", "killed"]
    running = {
        name: subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), name], stdout=subprocess.PIPE, text=True
        )
        for name in names
    }
    for process in running.values():
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    running["killed"].send_signal(signal.SIGKILL)
    for name, process in running.items():
        assert process.wait(60) == (-signal.SIGKILL if name == "killed" else 0)
        assert process.stdout is not None
        process.stdout.close()
    store = VerdictCache(tmp_path)
    for name in ("one", "two"):
        keys = [f"ab{n:030d}{name:>32}".replace(" ", "0") for n in range(150)]
        found = store.get(keys)
        assert [found[key].asserts for key in keys] == list(range(150))
    for line in (tmp_path / "ab.jsonl").read_text().splitlines()[:-1]:
        assert json.loads(line.rpartition("\t")[0])["status"] == "passed"


def test_only_what_is_not_known_is_judged(tmp_path: Path, monkeypatch) -> None:
    store, asked, told = VerdictCache(tmp_path), [], []

    def judge(programs, progress, **_):
        asked.append([p.program for p in programs])
        progress(2 * len(programs), 2 * len(programs))
        return [replace(PASSED, detail=p.program) for p in programs]

    monkeypatch.setattr(cache, "judge", judge)
    monkeypatch.setattr(cache, "CHUNK", 2)
    programs = [replace(PROGRAM, program=f"{k}") for k in (0, 1, 2, 1, 3)]

    def run(which):
        return judge_cached(
            which, store=store, progress=lambda done, all_: told.append((done, all_))
        )

    assert [v.detail for v in run(programs[:2])] == ["0", "1"]
    assert [v.detail for v in run(programs)] == ["0", "1", "2", "1", "3"]
    assert [v.detail for v in run(programs)] == ["0", "1", "2", "1", "3"]
    assert asked == [["0", "1"], ["2", "3"]]
    assert told == [(2, 2), (5, 5)]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        VerdictCache(tmp_path / "file" / "verdicts")
