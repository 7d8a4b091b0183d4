"""The page itself: a template, a style sheet and scripts, which are copied into each report."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

SCRIPTS = ("data", "filters", "list", "detail", "compare", "matrix", "keys", "start")
"""In the order in which they are loaded: each uses only those before it."""
REVIEW = ("drawing", "review")
"""The scripts that take corrections, before the last one."""
STYLE, ICON = "report.css", "icon.svg"


def write_page(folder: Path, *, title: str, rows: int, review: bool = False) -> None:
    """Write `index.html` and what it loads.

    Args:
        folder: of the report.
        title: of the page; any text.
        rows: number of rows; without rows there is no script of rows.
        review: with the scripts that take corrections.
    """
    page = folder / "page"
    page.mkdir()
    scripts = (*SCRIPTS[:-1], *REVIEW, SCRIPTS[-1]) if review else SCRIPTS
    for name in (STYLE, ICON, *(f"{script}.js" for script in scripts)):
        (page / name).write_bytes((files("recognizer.report") / "page" / name).read_bytes())
    (folder / "index.html").write_text(
        render(title=title, rows=rows, scripts=scripts), encoding="utf-8", errors="replace"
    )


def render(*, title: str, rows: int, scripts: Sequence[str] = SCRIPTS) -> str:
    """Return the text of `index.html`."""
    environment = Environment(
        loader=PackageLoader("recognizer.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("index.html.j2").render(
        title=title,
        rows=rows,
        scripts=[f"page/{name}.js" for name in scripts],
        review=REVIEW[-1] in scripts,
        style=f"page/{STYLE}",
        icon=f"page/{ICON}",
    )
