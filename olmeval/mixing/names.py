"""Names of domains and targets as tables show them."""

from collections.abc import Sequence


def short_names(names: Sequence[str]) -> list[str]:
    """Names without the beginning and the end that all have in common, for tables."""
    if len(names) < 2:
        return list(names)
    start = _common_start(names)
    end = _common_start([name[::-1] for name in names])[::-1]
    # Whole words only: "stackexchange" and "stack" do not become "exchange" and "".
    start = start[: max(start.rfind(c) for c in "_/:.-") + 1]
    cuts = [place for c in "_/:.-" if (place := end.find(c)) >= 0]
    end = end[min(cuts) :] if cuts else ""
    short = [name.removeprefix(start).removesuffix(end) for name in names]
    return short if all(short) and len(set(short)) == len(names) else list(names)


def _common_start(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    same = next(
        (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first)
    )
    return first[:same]
