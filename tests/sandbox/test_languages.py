"""Programs in other languages, in the jail: each ends as its author means it to, and is judged so.

A language is tested where its toolchain is installed; the test says so where it is not.
"""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from olmeval.errors import UserError
from olmeval.sandbox import languages, tiers, toolchains
from olmeval.sandbox.languages_judge import judge, said, status_of
from olmeval.sandbox.types import Outcome, Part
from olmeval.sandbox.verdict import Verdict
from tests.sandbox.guard import guarded
from tests.sandbox.programs import SAMPLES

# Compilers that need seconds a program.
SLOW = ("go", "ts", "rkt")


def judged(name: str, *kinds: str) -> dict[str, Verdict]:
    """Verdicts of a sample's completions, by their names."""
    lacking = languages.missing(name)
    if lacking:
        pytest.skip(lacking)
    if tiers.probe().name == "T3":
        pytest.skip("nothing here can contain a program")
    sample = SAMPLES[name]
    present = [kind for kind in kinds if getattr(sample, kind)]
    verdicts = judge(name, [(sample.prompt + getattr(sample, k), sample.tests) for k in present])
    return dict(zip(present, verdicts, strict=True))


def marked(names: list[str]) -> list[object]:
    return [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in names]


def test_every_language_has_a_sample() -> None:
    assert SAMPLES.keys() == languages.LANGUAGES.keys()


@pytest.mark.parametrize("name", marked(list(SAMPLES)))
def test_passes_what_passes_and_nothing_else(name: str) -> None:
    found = judged(name, "honest", "wrong", "broken", "quits", "disarms", "reads")
    assert found["honest"].status == "passed", found["honest"]
    assert found["honest"].mode == "strict" and found["honest"].compat == "passed"
    for kind in ("wrong", "broken"):
        assert (found[kind].status, found[kind].compat) == ("failed", "failed"), found[kind]
    if languages.LANGUAGES[name].compile:
        assert found["broken"].detail.startswith("does not compile: ")
    for kind in found.keys() - {"honest", "wrong", "broken"}:
        assert found[kind].status == "failed", found[kind]
    # luaunit sees to os.exit by itself.
    assert found["quits"].suspected_cheat is (name != "lua")
    cheats = [v for kind, v in found.items() if kind in ("disarms", "reads")]
    assert all(verdict.suspected_cheat for verdict in cheats)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little time to run and 512 MiB, so that the limits are met soon."""
    monkeypatch.setattr(languages, "MEMORY", 512 << 20)
    for name, one in languages.LANGUAGES.items():
        seconds = 1.0 if name in QUICK else 3.0
        monkeypatch.setitem(languages.LANGUAGES, name, replace(one, run_seconds=seconds))


QUICK = ("cpp", "js", "php", "sh")
BOUNDED = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in SAMPLES]


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("name", BOUNDED)
def test_endless_programs_and_hogs_are_ended(name: str) -> None:
    found = judged(name, "endless", "hog")
    assert (found["endless"].status, found["endless"].compat) == ("timeout", "timeout")
    # What takes all memory is ended for it, or by its own runtime, or by the clock.
    assert found["hog"].status in ("memory", "failed", "crash", "timeout"), found["hog"]
    assert found["hog"].status == found["hog"].compat


def test_equal_programs_give_equal_verdicts_in_their_order() -> None:
    lacking = languages.missing("sh")
    if lacking:
        pytest.skip(lacking)
    sample = SAMPLES["sh"]
    good = (sample.prompt + sample.honest, sample.tests)
    bad = (sample.prompt + sample.wrong, sample.tests)
    verdicts = judge("sh", [good, bad, good, good, bad], workers=2)
    assert [v.status for v in verdicts] == ["passed", "failed", "passed", "passed", "failed"]
    assert verdicts[0] is verdicts[2] is verdicts[3]
    again = judge("sh", [bad, good])[1]
    assert replace(again, seconds=0.0) == replace(verdicts[0], seconds=0.0)
    assert again.stdout == ""


def test_tests_of_an_unknown_shape_are_judged_as_the_published_harness_does() -> None:
    if languages.missing("cpp"):
        pytest.skip(str(languages.missing("cpp")))
    [verdict] = judge("cpp", [("#include <cstdlib>\nint main() { std::exit(0)", ";")])
    assert (verdict.strict, verdict.compat, verdict.mode) == (None, "failed", "compat")


def test_a_return_at_the_end_of_main_does_not_hide_the_nonce() -> None:
    text = languages.source("cpp", "", "\nint main() {\n assert(true);\n return 0;\n}\n", "word")
    assert text is not None
    assert text.index("assert(true)") < text.index("word") < text.index("return 0;")


@pytest.mark.parametrize("name", list(SAMPLES))
def test_the_control_differs_from_the_run_in_one_assertion(name: str) -> None:
    sample, one = SAMPLES[name], languages.LANGUAGES[name]
    run = languages.source(name, sample.prompt, sample.tests, "0" * 32)
    control = languages.source(name, sample.prompt, sample.tests, "0" * 32, control=True)
    assert run is not None and control is not None
    assert control.replace(f"{one.never}\n", "") == run
    assert len(re.findall("0" * 32, run)) == 1
    assert run.index("0" * 32) > len(sample.prompt)


def outcome(*parts: Part, status: str = "exited") -> Outcome:
    return Outcome("k", status, parts)  # type: ignore[arg-type]


def test_the_nonce_counts_on_a_line_of_its_own_only() -> None:
    assert said(outcome(Part("exited", 0, stdout=b"ok\nabc\nmore")), "abc")
    assert not said(outcome(Part("exited", 0, stdout=b"fputs(abc)\n")), "abc")
    assert not said(outcome(Part("exited", 0, stderr=b"abc\n")), "abc")


@pytest.mark.parametrize(
    ("found", "status", "detail"),
    [
        (outcome(Part("exited", 127)), "infrastructure", "the compiler did not start"),
        (outcome(Part("exited", 1, stderr=b"a.cpp:1: error: x\n")), "failed", "does not compile"),
        (outcome(Part("timeout"), status="timeout"), "timeout", "timeout while compiling"),
        (outcome(status="infrastructure"), "infrastructure", "no program ran"),
        (
            outcome(Part("exited", 0), Part("signal", signal=11), status="signal"),
            "crash", "SIGSEGV",
        ),
        (
            outcome(
                Part("exited", 0), Part("signal", signal=6, stderr=b"Assertion `x' failed."),
                status="signal",
            ),
            "failed", "an assertion failed",
        ),
        (outcome(Part("exited", 0), Part("blocked"), status="blocked"), "blocked", "blocked"),
        (outcome(Part("exited", 0), Part("exited", 3)), "failed", "exit code 3"),
    ],
)  # fmt: skip
def test_how_an_outcome_is_read(found: Outcome, status: str, detail: str) -> None:
    verdict, why = status_of("cpp", found)
    assert verdict == status and why.startswith(detail)


def test_mono_and_racket_fail_by_what_they_print() -> None:
    said_on_error = Part("exited", 0, stderr=b"FAILURE")
    assert status_of("rkt", outcome(said_on_error))[0] == "failed"
    asserted = Part("exited", 0, stderr=b"DefaultTraceListener.Fail")
    assert status_of("cs", outcome(Part("exited", 0), asserted))[0] == "failed"
    assert status_of("php", outcome(said_on_error))[0] == "passed"


def test_an_unknown_language_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"programs in 'jss' cannot be run.*did you mean 'js'"):
        languages.command_for("jss", "", "k")


def test_a_missing_toolchain_is_refused_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = replace(languages.LANGUAGES["php"], tools={"php": "no-such-php"})
    monkeypatch.setitem(languages.LANGUAGES, "php", one)
    with pytest.raises(UserError, match=r"'no-such-php' is not installed\): `apt-get install php"):
        languages.command_for("php", "", "k")


def test_a_language_whose_programs_do_not_run_here_is_refused_not_scored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A broken interpreter must not look like a model that solves nothing."""
    if languages.missing("sh"):
        pytest.skip(str(languages.missing("sh")))
    broken = replace(languages.LANGUAGES["sh"], run=("{bash}", "absent.sh"))
    monkeypatch.setitem(languages.LANGUAGES, "sh", broken)
    sample = SAMPLES["sh"]
    with pytest.raises(UserError, match="Bash programs do not run in the sandbox here: one that"):
        judge("sh", [(sample.prompt + sample.honest, sample.tests)])


def test_gcc_reads_its_headers_once_for_programs_that_begin_with_them() -> None:
    lacking = languages.missing("cpp")
    if lacking:
        pytest.skip(lacking)
    begins = languages.command_for("cpp", SAMPLES["cpp"].prompt, "k")
    other = languages.command_for("cpp", "#include <vector>\n#include<bits/stdc++.h>\n", "k")
    assert "-include" not in other.steps[0].argv and other.mounts == ()
    if begins.mounts:  # the cache can be shown to programs
        [folder] = begins.mounts
        assert Path(folder, "bits", "stdc++.h.gch").stat().st_size > 1 << 20
        assert begins.steps[0].argv[1:5] == ("-I", folder, "-include", "bits/stdc++.h")
    assert toolchains.precompiled_header("/bin/false", ()) is None


@pytest.mark.parametrize(
    ("name", "noise"),
    [
        ("js", "  for (let i = 0; i < 20000; i++) console.log('x'.repeat(60));\n"),
        ("sh", "    for i in {1..20000}; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx >&2; done\n"),
        ("php", "    for ($i = 0; $i < 20000; $i++) echo str_repeat('x', 60), \"\\n\";\n"),
    ],
)
def test_a_loud_program_passes(name: str, noise: str) -> None:
    """Only the ends of a long output are kept; the nonce is in the last of them."""
    if languages.missing(name):
        pytest.skip(str(languages.missing(name)))
    sample = SAMPLES[name]
    [verdict] = judge(name, [(sample.prompt + noise + sample.honest, sample.tests)])
    assert verdict.status == "passed", verdict.detail


AS_A_USER = """
import sys
from olmeval.sandbox import languages, tiers
from olmeval.sandbox.languages_judge import judge
from tests.sandbox.programs import SAMPLES

wall = next((w for w in tiers.walls() if w.name == sys.argv[1]), None)
if wall is None or tiers.try_wall(wall):
    sys.exit(77)
from olmeval.sandbox import run
run.probe = lambda: tiers.Tier(wall.name, wall, wall.namespaces, wall.landlock, True, False)
for name in sys.argv[2:]:
    if languages.missing(name):
        continue
    sample = SAMPLES[name]
    kinds = (sample.honest, sample.wrong, sample.quits)
    verdicts = judge(name, [(sample.prompt + kind, sample.tests) for kind in kinds])
    print(name, *(v.status for v in verdicts), {v.tier for v in verdicts})
"""


@pytest.mark.parametrize("tier", ["T1", "T2"])
def test_an_unprivileged_user_gets_the_same_verdicts(tier: str) -> None:
    done = guarded(["-c", AS_A_USER, tier, "sh", "php", "js", "pl"], user="nobody")
    if done.returncode == 77:
        pytest.skip(f"{tier} is not to be had here by an unprivileged user")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    present = [n for n in ("sh", "php", "js", "pl") if languages.missing(n) is None]
    assert lines == [f"{name} passed failed failed {{'{tier}'}}" for name in present]
