"""Opens the page in the user's browser without telling its token to others."""

import os
import sys
import webbrowser
from html import escape
from pathlib import Path


def open_page(link: str, folder: Path) -> bool:
    """Opens ``link`` where there is a graphical browser; False where there is none.

    All users of a machine see the arguments of its processes, so the browser gets a file in
    ``folder``, which only this user can read, that leads on to the link.
    """
    if sys.platform == "linux" and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return False
    page = folder / "open.html"
    page.write_text(
        f'<!DOCTYPE html><meta charset="utf-8"><title>olmeval</title>'
        f'<meta http-equiv="refresh" content="0; url={escape(link)}">',
        encoding="utf-8",
    )
    try:
        return webbrowser.open(page.as_uri())
    except webbrowser.Error:
        return False
