"""The top of a report: for every contest one sentence, its evidence, and the ranking."""

from collections.abc import Sequence
from math import isnan

from olmeval.reports.report_contests import Contest, Standing
from olmeval.reports.report_entries import Entry
from olmeval.reports.report_svg import forest, shape
from olmeval.reports.report_text import (
    attribute,
    bare,
    count,
    digits,
    interval,
    listed,
    name,
    number,
    probability,
    tag,
)
from olmeval.stats.mean import Z95

WORDS = {
    "better": ("worse", "bad"),
    "worse": ("better", "good"),
    "level": ("within error", "level"),
    "unknown": ("error unknown", "level"),
}
"""What the reference's verdict on a run says of that run, and its style."""
NOTHING = '<td class="number">–</td><td class="pic"></td><td class="number p">–</td>'
NOTHING_SHOWN = 5e-6
"""A difference below it is written as zero."""
TOP = 8
"""Rows of a ranking that are open; the others are folded away."""


def verdicts(found: Sequence[Contest], slots: dict[str, int], baseline: bool) -> str:
    """A card for each contest; ``slots`` are the series (colour, marker) of entries' labels."""
    return f'<div class="cards">{"".join(_card(c, slots, baseline) for c in found)}</div>'


def claim(contest: Contest, baseline: bool) -> tuple[str, str]:
    """The answer (HTML) and the verdict in a word: significant, not significant or unknown."""
    rivals = contest.rivals
    if not rivals:
        (first, *_) = contest.standings
        places = digits(first.stderr)
        more = "" if isnan(first.stderr) else f" ± {number(Z95 * first.stderr, places)}"
        return f"{name(first.entry.label)}: {number(first.value, places)}{more}", ""
    if baseline:
        return _against_baseline(contest)
    lead, second = name(contest.reference.label), rivals[0]
    places = _places(second)
    gap = f"{number(second.gain, places)} ({interval(second.low, second.high, places)})"
    if second.verdict == "better":
        return f"{lead} is better than {name(second.entry.label)} by {gap}", "significant"
    if second.verdict == "unknown":
        return (
            f"{lead} is ahead of {name(second.entry.label)} by {number(second.gain, places)}",
            "error unknown",
        )
    level = [name(s.entry.label) for s in rivals if s.verdict == "level"]
    if abs(second.gain) < NOTHING_SHOWN:
        return f"{lead} and {name(second.entry.label)} are level", "not significant"
    return (
        f"{lead} leads {name(second.entry.label)} by {gap}, which is within error"
        if len(level) == 1
        else f"{lead} leads, but cannot be told from {listed(level)}"
    ), "not significant"


def _against_baseline(contest: Contest) -> tuple[str, str]:
    rivals, held = contest.rivals, name(contest.reference.label)
    # The reference is the baseline here, so its loss is the rival's gain.
    better = [name(s.entry.label) for s in rivals if s.verdict == "worse"]
    worse = [name(s.entry.label) for s in rivals if s.verdict == "better"]
    word = "significant" if better or worse else "not significant"
    if len(rivals) == 1:
        (only,) = rivals
        places = _places(only)
        if better or worse:
            how = "better" if better else "worse"
            low, high = sorted((abs(only.low), abs(only.high)))
            gap = f"{number(abs(only.gain), places)} ({interval(low, high, places)})"
            return f"{name(only.entry.label)} is {how} than {held} by {gap}", word
        return (
            f"{name(only.entry.label)} differs from {held} by "
            f"{number(-only.gain, places, signed=True)} ({interval(-only.high, -only.low, places)})"
            ", which is within error"
        ), "error unknown" if isnan(only.p) else word
    parts = []
    if better:
        parts.append(f"better than {held}: {listed(better)}")
    if worse:
        parts.append(f"worse: {listed(worse)}")
    same = sum(s.verdict == "level" for s in rivals)
    if same:
        parts.append(
            f"{count(same, 'run')} within error" if parts else f"No run differs from {held}"
        )
    text = "; ".join(parts)
    return text[:1].upper() + text[1:], word


def _places(standing: Standing) -> int:
    return digits((standing.high - standing.low) / 4)


def _card(contest: Contest, slots: dict[str, int], baseline: bool) -> str:
    text, word = claim(contest, baseline)
    kind = {"significant": "good", "": ""}.get(word, "level")
    arrow = "↑ higher is better" if contest.higher_is_better else "↓ lower is better"
    mark = f" {tag(word, kind)}" if word else ""
    return (
        f'<article class="card"><p class="kicker">{name(contest.name)} <span>{arrow}</span>{mark}'
        f'</p><p class="claim">{text}</p>{_evidence(contest)}'
        f"{_ranking(contest, slots, baseline)}</article>"
    )


def _evidence(contest: Contest) -> str:
    """What the sentence rests on: tests, tasks, noise of checkpoints, who was left out."""
    lines = []
    if contest.rivals:
        first = contest.rivals[0]
        lines.append(f"Against {name(first.entry.label)}: {probability(first.p)}")
        if len(contest.rivals) > 1:
            lines[-1] += f" (Holm-corrected over {count(len(contest.rivals), 'rival')})"
        if max(first.entry.seeds, contest.reference.seeds) > 1:
            lines.append("interval and p hold the spread from seed to seed")
        beaten = [name(s.entry.label) for s in contest.rivals[1:] if s.verdict == "better"]
        if beaten:
            lines.append(f"significantly better than {listed(beaten)}")
        if first.ahead + first.behind > 1:
            lines.append(
                f"{name(contest.reference.label)} is ahead on {first.ahead} of "
                f"{first.ahead + first.behind} tasks ({first.sure[0]} significantly), behind on "
                f"{first.behind} ({first.sure[1]} significantly)"
            )
        if first.by_checkpoints:
            lines.append(
                "the error of the questions is unknown: intervals and p are of the spread of the "
                "last checkpoints alone"
            )
        elif first.p_noise == first.p_noise:
            lines.append(
                f"with the spread of the last checkpoints: {probability(first.p_noise)}"
                + (
                    f", ahead significantly on {first.noisy[0]}, behind on {first.noisy[1]}"
                    if first.noisy and sum(map(bool, first.sure))
                    else ""
                )
            )
    if contest.left_out:
        left = listed([name(e.label) for e in contest.left_out])
        lines.append(f"not ranked, for lack of tasks: {left}")
    return f'<p class="why">{". ".join(_upper(line) for line in lines)}.</p>' if lines else ""


def _upper(text: str) -> str:
    return text if text.startswith("<") else text[:1].upper() + text[1:]


def _ranking(contest: Contest, slots: dict[str, int], baseline: bool) -> str:
    if len(contest.standings) < 2:
        return ""
    known = [end for s in contest.rivals for end in (-s.low, -s.high) if not isnan(end)]
    ends = (min([0.0, *known]), max([0.0, *known]))
    rows = [_place(contest, s, slots, ends) for s in contest.standings]
    label = attribute(contest.name)
    against = "baseline" if baseline else "leader"
    heads = (
        '<th scope="col">run</th><th scope="col" class="number">value ± 95 %</th>'
        f'<th scope="col" class="number">against {against}</th>'
        '<th scope="col" class="pic">95 % interval</th><th scope="col" class="number p">p</th>'
        '<th scope="col">verdict</th>'
    )
    top, rest = rows[:TOP], rows[TOP:]
    more = ""
    if rest:
        more = (
            f"<details><summary>{len(rest)} more runs</summary>"
            f'<table class="ranking"><thead class="hidden"><tr>{heads}</tr></thead>'
            f"<tbody>{''.join(rest)}</tbody></table></details>"
        )
    return (
        f'<div class="scroll plain" tabindex="0" role="region" aria-label="Ranking by {label}">'
        f'<table class="ranking"><thead><tr>{heads}</tr></thead><tbody>{"".join(top)}</tbody>'
        f"</table></div>{more}"
    )


def _place(contest: Contest, s: Standing, slots: dict[str, int], ends: tuple[float, float]) -> str:
    places = digits(s.stderr)
    error = "" if isnan(s.stderr) else f" <small>± {number(Z95 * s.stderr, places)}</small>"
    value = f'<td class="number">{number(s.value, places)}{error}</td>'
    if s.entry is contest.reference:
        rest = f"{NOTHING}<td>reference</td>"
    elif isnan(s.gain):
        rest = f'{NOTHING}<td class="within">not tested</td>'
    else:
        word, kind = WORDS[s.verdict]
        rest = (
            f'<td class="number">{number(-s.gain, _places(s), signed=True)}</td>'
            f'<td class="pic">{forest(-s.gain, -s.high, -s.low, ends, kind)}</td>'
            f'<td class="number p">{bare(s.p)}</td><td>{tag(word, kind)}</td>'
        )
    return f'<tr><th scope="row">{run_name(s.entry, slots)}</th>{value}{rest}</tr>'


def run_name(entry: Entry, slots: dict[str, int]) -> str:
    """The name of a run after the marker of its lines, where it has one."""
    slot = slots.get(entry.label)
    if slot is None:
        return name(entry.label)
    mark = f'<svg class="dot" viewBox="-5 -5 10 10" aria-hidden="true">{shape(slot)}</svg>'
    return f"{mark}{name(entry.label)}"
