"""``judge``: programs and their tests in, verdicts out.

Every Python program runs twice. ``strict``: the tests in a process of their own, where the program
cannot reach them. ``compat``: program and tests in one process, as the benchmark was published.
The strict verdict counts; it is None where the tests need the program's own process (they pass
objects that cannot cross), and then the compatible one counts. A program that passes the compatible
form and not the strict one is a suspected cheat.
"""

import json
import secrets
import signal
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from olmeval.sandbox.inside.watch import CROWDED
from olmeval.sandbox.run import run_jobs
from olmeval.sandbox.types import Job, Limits, Outcome, Part, Role

Status = Literal["passed", "failed", "timeout", "memory", "crash", "blocked", "infrastructure"]
STATUSES: tuple[Status, ...] = (
    "passed", "failed", "timeout", "memory", "crash", "blocked", "infrastructure"
)  # fmt: skip
# Of each stream; a verdict is kept for every sample of a run.
OUTPUT_KEPT = 2000


@dataclass(frozen=True)
class Program:
    """What is run. ``program`` holds what a model wrote; ``tests`` follow it directly.

    ``prompt`` is the beginning of ``program`` that the benchmark wrote: what it defines is used by
    the tests as it stands there, whatever the program makes of it. ``form``: ``asserts`` are
    statements, ``unittest`` is a class ``TestCases`` (never strict: it runs in the program's own
    process). ``environment`` is the folder of a virtual environment.
    """

    program: str
    tests: str
    prompt: str = ""
    form: Literal["asserts", "unittest"] = "asserts"
    strict: bool = True
    limits: Limits = field(default_factory=Limits)
    environment: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What became of a program.

    ``status`` counts; ``mode`` says which of the two forms it comes from. ``asserts`` counts those
    that held. ``seconds`` is the wall time of that form.
    """

    status: Status
    mode: Literal["strict", "compat"]
    strict: Status | None
    compat: Status
    detail: str = ""
    seconds: float = 0.0
    asserts: int = 0
    stdout: str = ""
    stderr: str = ""
    tier: str = ""

    @property
    def suspected_cheat(self) -> bool:
        """The published benchmark would count a pass that the strict form does not confirm."""
        return self.compat == "passed" and self.strict not in (None, "passed", "infrastructure")

    def to_json(self) -> dict[str, Any]:
        """Its fields in a plain dictionary."""
        return asdict(self)


@dataclass(frozen=True)
class _Form:
    """What one of the two runs of a program showed."""

    status: Status | None
    detail: str
    part: Part | None
    asserts: int = 0


def judge(
    programs: Sequence[Program],
    *,
    workers: int | None = None,
    unsafe_local: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Verdict]:
    """The verdicts of ``programs``, in their order; equal programs run once.

    ``progress`` is called with (ended, all) runs: two a program, one where strict is off. Raises
    :class:`olmeval.errors.UserError` where nothing here can contain a program and ``unsafe_local``
    is not set.
    """
    unique = list(dict.fromkeys(programs))
    nonces = [secrets.token_hex(16) for _ in unique]
    jobs, owner = [], []
    for number, (program, nonce) in enumerate(zip(unique, nonces, strict=True)):
        if program.strict and program.form == "asserts":
            jobs.append(_strict_job(program, nonce, f"{number}s"))
            owner.append(number)
        jobs.append(_compat_job(program, nonce, f"{number}c"))
        owner.append(number)
    outcomes = run_jobs(jobs, workers=workers, unsafe_local=unsafe_local, progress=progress)

    def read(k: int) -> _Form:
        form = _strict_form if len(jobs[k].roles) == 2 else _compat_form
        return form(outcomes[k], nonces[owner[k]])

    doubtful = [
        k
        for k, job in enumerate(jobs)
        if _crowded_out(job.limits, outcomes[k]) or _killed(outcomes[k], read(k))
    ]
    again = run_jobs([jobs[k] for k in doubtful], workers=1, unsafe_local=unsafe_local)
    for k, outcome in zip(doubtful, again, strict=True):
        outcomes[k] = outcome
    forms: list[dict[str, _Form]] = [{} for _ in unique]
    tiers = [""] * len(unique)
    for k, job in enumerate(jobs):
        forms[owner[k]][job.key[-1]] = read(k)
        tiers[owner[k]] = outcomes[k].tier or tiers[owner[k]]
    made = {
        program: replace(_verdict(found.get("s"), found["c"]), tier=tier)
        for program, found, tier in zip(unique, forms, tiers, strict=True)
    }
    return [made[program] for program in programs]


def _crowded_out(limits: Limits, outcome: Outcome) -> bool:
    """Waited for a core for so long that the jail stopped it before it had its time on one: it is
    run once more, alone."""
    longest = max((part.seconds for part in outcome.parts), default=0.0)
    return outcome.status == "timeout" and longest >= 0.95 * CROWDED * limits.seconds


def _killed(outcome: Outcome, form: _Form) -> bool:
    """Ended by a signal that comes from itself or from outside, where memory runs out, say: once
    more tells which."""
    return form.status == "crash" and any(map(killed, outcome.parts))


def killed(part: Part) -> bool:
    """Whether SIGKILL ended a process, and not for one of its limits."""
    return part.status == "signal" and part.signal == signal.SIGKILL


def _compat_job(program: Program, nonce: str, key: str) -> Job:
    order = {
        "program": program.program, "tests": program.tests, "nonce": nonce,
        "unittest": program.form == "unittest",
    }  # fmt: skip
    return Job(key, (Role("compat", _payload(order)),), program.limits, program.environment)


def _strict_job(program: Program, nonce: str, key: str) -> Job:
    tester = {"tests": program.tests, "prompt": program.prompt, "nonce": nonce}
    roles = (
        Role("strict", _payload(tester)),
        Role("strict", _payload({"program": program.program})),
    )
    return Job(key, roles, program.limits, program.environment)


def _payload(order: dict[str, Any]) -> bytes:
    return json.dumps(order).encode()


def _report(part: Part, nonce: str) -> dict[str, Any] | None:
    """The runner's findings; None where it wrote none, or somebody else wrote them."""
    try:
        found = json.loads(part.report)
    except ValueError:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("status"), str):
        return None
    if found["status"] == "passed" and found.get("nonce") != nonce:
        return {"status": "failed", "error": "a pass was claimed without its secret", "asserts": 0}
    return found


def _compat_form(outcome: Outcome, nonce: str) -> _Form:
    if outcome.status == "infrastructure" or not outcome.parts:
        return _Form("infrastructure", outcome.detail or "the jail failed", None)
    part = outcome.parts[0]
    ended = _ended(part)
    if ended is not None:
        return _Form(ended, _how(part), part)
    found = _report(part, nonce)
    if found is None:
        return _Form("failed", "the program ended before its tests did", part)
    return _found(found, part)


def _strict_form(outcome: Outcome, nonce: str) -> _Form:
    # The tester's end is the run's: how it ended the candidate after that says nothing.
    if len(outcome.parts) < 2:
        return _Form("infrastructure", outcome.detail or "the jail failed", None)
    tester, candidate = outcome.parts
    found = _report(tester, nonce) if _ended(tester) is None else None
    if found is not None and found["status"] in ("passed", "fallback", "broken"):
        return _found(found, candidate)
    if found is None or found.get("ended"):
        # Whatever fells the tester came from the candidate: tests end, given plain data.
        for part in sorted((candidate, tester), key=lambda p: p.status != "infrastructure"):
            ended = _ended(part)
            if ended is not None:
                return _Form(ended, _how(part), candidate)
    if found is None:
        return _Form("infrastructure", "the tests' own process gave no report", candidate)
    return _found(found, candidate)


def _ended(part: Part) -> Status | None:
    """How the outside saw the process end, where that alone decides."""
    if part.status == "signal":
        # Ended by the jail, when its partner had ended.
        return "crash" if part.signal is not None else None
    if part.status in ("timeout", "memory", "blocked", "infrastructure"):
        return part.status
    return None


def _how(part: Part) -> str:
    if part.status == "signal" and part.signal is not None:
        try:
            return f"ended by {signal.Signals(part.signal).name}"
        except ValueError:
            return f"ended by signal {part.signal}"
    return {
        "timeout": "over its time", "memory": "over its memory",
        "infrastructure": "it could not be started",
    }.get(part.status, "used what is forbidden")  # fmt: skip


def _found(found: dict[str, Any], part: Part) -> _Form:
    error = str(found.get("error", ""))
    asserts = found.get("asserts")
    count = asserts if isinstance(asserts, int) else 0
    status = found["status"]
    if status == "passed":
        return _Form("passed", "", part, count)
    if status == "fallback":
        return _Form(None, error, part)
    if status == "broken":
        return _Form("infrastructure", error, part)
    # Python turns the limit on its memory into an exception.
    return _Form("memory" if error.startswith("MemoryError") else "failed", error, part, count)


def _verdict(strict: _Form | None, compat: _Form) -> Verdict:
    assert compat.status is not None
    use_strict = strict is not None and strict.status is not None
    counts = strict if use_strict and strict is not None else compat
    assert counts.status is not None
    detail = counts.detail
    if strict is not None and strict.status is None:
        detail = "; ".join(filter(None, [detail, f"not strict: {strict.detail}"]))
    part = counts.part
    return Verdict(
        status=counts.status,
        mode="strict" if use_strict else "compat",
        strict=None if strict is None else strict.status,
        compat=compat.status,
        detail=detail,
        seconds=0.0 if part is None else part.seconds,
        asserts=counts.asserts,
        stdout="" if part is None else _text(part.stdout),
        stderr="" if part is None else _text(part.stderr),
    )


def _text(output: bytes) -> str:
    text = output.decode("utf-8", "replace")
    if len(text) <= OUTPUT_KEPT:
        return text
    half = OUTPUT_KEPT // 2
    return f"{text[:half]}\n[{len(text) - OUTPUT_KEPT} characters dropped]\n{text[-half:]}"
