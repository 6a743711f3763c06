"""From programs in other languages to verdicts: runs them, and runs those that passed once more.

``compat`` is the published harness's verdict: every step exits with 0. ``strict`` asks two things
on top: that the nonce behind the last assertion was printed, and that in a second run, a *control*
with an assertion that cannot hold before it, it was not. The first defeats every early exit, the
second disarmed assertions and programs that print what they read in their own source. Neither
defeats a program that inspects itself, sees which of the two runs it is in, and acts on it; the
comparison is made in the program's own process, as these benchmarks are built.
"""

import re
import secrets
import signal
from collections.abc import Sequence

from olmeval.errors import UserError
from olmeval.sandbox import languages
from olmeval.sandbox.run import Progress, run_jobs
from olmeval.sandbox.types import Outcome, Part
from olmeval.sandbox.verdict import OUTPUT_KEPT, Status, Verdict, killed


def judge(
    name: str,
    programs: Sequence[tuple[str, str]],
    *,
    workers: int | None = None,
    unsafe_local: bool = False,
    progress: Progress | None = None,
) -> list[Verdict]:
    """Judges (program, tests) pairs of the language ``name``, in their order; equal ones once.

    ``tests`` follow the program directly; what stands between them is theirs. A program that must
    pass runs with them. Raises :class:`UserError` where it does not, and where the language is
    unknown or its toolchain is not installed.
    """
    trial = languages.language(name).trial
    unique = list(dict.fromkeys([trial, *programs]))
    nonces = [secrets.token_hex(16) for _ in unique]
    texts = [
        languages.source(name, *pair, nonce) for pair, nonce in zip(unique, nonces, strict=True)
    ]
    commands = [
        languages.command_for(name, text if text is not None else "".join(pair), f"{n}")
        for n, (pair, text) in enumerate(zip(unique, texts, strict=True))
    ]
    first = run_jobs(commands, workers=workers, unsafe_local=unsafe_local, progress=progress)
    # Killed by itself or from outside: once more tells which.
    doubtful = [n for n, outcome in enumerate(first) if any(map(killed, outcome.parts))]
    again = run_jobs([commands[n] for n in doubtful], workers=1, unsafe_local=unsafe_local)
    for n, outcome in zip(doubtful, again, strict=True):
        first[n] = outcome
    came_through = [
        n
        for n, outcome in enumerate(first)
        if texts[n] is not None and accepted(name, outcome) and said(outcome, nonces[n])
    ]
    controls = [
        languages.source(name, *unique[n], nonces[n], control=True) or "" for n in came_through
    ]
    second = run_jobs(
        [languages.command_for(name, text, f"{n}") for n, text in enumerate(controls)],
        workers=workers, unsafe_local=unsafe_local,
    )  # fmt: skip
    control_of = dict(zip(came_through, second, strict=True))
    rulings = {
        pair: _ruling(name, outcome, text is not None, nonce, control_of.get(n))
        for n, (pair, outcome, text, nonce) in enumerate(
            zip(unique, first, texts, nonces, strict=True)
        )
    }
    tried = rulings[trial]
    if tried.status != "passed":
        raise UserError(
            f"{languages.language(name).title} programs do not run in the sandbox here: one that "
            f"must pass ended with '{tried.status}' ({tried.detail or tried.compat})"
        )
    return [rulings[pair] for pair in programs]


def accepted(name: str, outcome: Outcome) -> bool:
    """Whether the published harness would let it pass: all steps exit with 0, and what it adds."""
    one = languages.language(name)
    if outcome.status != "exited" or not outcome.parts or outcome.parts[-1].code != 0:
        return False
    last = outcome.parts[-1]
    text = (last.stdout + last.stderr).decode("utf-8", "replace")
    return not (one.quiet and last.stderr) and not any(mark in text for mark in one.marks)


def said(outcome: Outcome, nonce: str) -> bool:
    """Whether the last step printed the nonce, on a line of its own."""
    line = rb"^%s\r?$" % nonce.encode()
    return bool(outcome.parts) and bool(re.search(line, outcome.parts[-1].stdout, re.MULTILINE))


def _ruling(
    name: str, outcome: Outcome, verified: bool, nonce: str, control: Outcome | None
) -> Verdict:
    compat, detail = status_of(name, outcome)
    strict: Status | None = compat if verified else None
    if compat == "passed" and verified:
        if control is None:
            strict, detail = "failed", "exits with 0 before the end of the tests"
        elif control.status == "infrastructure":
            strict = compat = "infrastructure"
            detail = control.detail
        elif accepted(name, control) and said(control, nonce):
            strict, detail = "failed", "passes an assertion that cannot hold, too"
    seconds = sum(part.seconds for part in outcome.parts)
    last = outcome.parts[-1] if outcome.parts else Part("infrastructure")
    return Verdict(
        status=compat if strict is None else strict,
        mode="compat" if strict is None else "strict",
        strict=strict, compat=compat, detail=detail, seconds=seconds, tier=outcome.tier,
        stdout=_shown(last.stdout, nonce), stderr=_shown(last.stderr, nonce),
    )  # fmt: skip


def status_of(name: str, outcome: Outcome) -> tuple[Status, str]:
    """The compat verdict of one run, and a few words on why it is not a pass."""
    if outcome.status == "infrastructure" or not outcome.parts:
        return "infrastructure", outcome.detail or "no program ran"
    one, last = languages.language(name), outcome.parts[-1]
    compiling = len(outcome.parts) == 1 and bool(one.compile)
    if accepted(name, outcome) and not compiling:
        return "passed", ""
    where = " while compiling" if compiling else ""
    if outcome.status == "signal":
        asserted = last.signal == signal.SIGABRT and b"ssertion" in last.stderr
        named = signal.Signals(last.signal).name if last.signal else "a signal"
        return ("failed", "an assertion failed") if asserted else ("crash", f"{named}{where}")
    if outcome.status != "exited":
        return outcome.status, f"{outcome.status}{where}"
    if compiling and last.code in (126, 127):
        return "infrastructure", f"the compiler did not start: {_first_line(last.stderr)}"
    if compiling:
        return "failed", f"does not compile: {_first_line(last.stderr or last.stdout)}"
    return "failed", _first_line(last.stderr or last.stdout) or f"exit code {last.code}"


def _shown(text: bytes, nonce: str) -> str:
    """The end of an output, without what differs from run to run."""
    return text.decode("utf-8", "replace").replace(f"\n{nonce}\n", "")[-OUTPUT_KEPT:]


def _first_line(text: bytes) -> str:
    """The first line that names an error or a place, else the first; at most 200 characters."""
    lines = [line.strip() for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"error|fail|:\d+:", line, re.IGNORECASE)]
    return (telling or lines or [""])[0][:200]
