"""``olmeval view``: a local page over run folders, down to the single prompt."""

from pathlib import Path

import click

EPILOG = """\b
Examples:
  olmeval view runs/
  olmeval view runs/step1000 runs/step2000 --port 8000 --no-browser
"""
PORT = 7577


@click.command(epilog=EPILOG)
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path))
@click.option("--port", default=PORT, show_default=True, help="Port to listen on; 0: any free one.")
@click.option("--no-browser", is_flag=True, help="Print the link, open nothing.")
@click.option(
    "--tokenizer",
    "tokenizers",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of a tokenizer, for token boundaries of models that are gone. Repeatable.",
)
def view(runs: tuple[Path, ...], port: int, no_browser: bool, tokenizers: tuple[Path, ...]) -> None:
    """Look at runs in a browser: prompts, tokens, choices, samples, and two runs side by side.

    RUNS are run folders, or hold them, and default to runs/. The page is served to this machine
    alone until Ctrl-C; runs appear in it as they are written.
    """
    from olmeval.reports.view.browser import open_page
    from olmeval.reports.view.serve import serve
    from olmeval.reports.view.server import Server

    def ready(server: Server) -> None:
        found = len(server.app.catalog.entries())
        click.echo(f"{found} run{'' if found == 1 else 's'}: {server.link}")
        click.echo("Ctrl-C ends it.", err=True)
        if not no_browser:
            open_page(server.link, server.app.folder)

    serve(runs or (Path("runs"),), port=port, tokenizers=tokenizers, ready=ready)
