"""The runner that a tier must run before it is used: says that it ran."""

from __future__ import annotations

import os


def main(payload: bytes, report: int, peer: object | None) -> None:  # noqa: ARG001
    """Sends its payload back."""
    os.write(report, payload)
