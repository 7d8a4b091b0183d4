"""Seconds of a report, by the clock and of the processor, and of its page in a browser.

usage: python tests/benchmarks/report.py [--rows 100000] [--rounds 5]

Rows are made up, with four candidates of four pieces of evidence each; 500 photographs of the demo in several sizes
stand in for a folder of images. The first view is the time from the address to the first card that is drawn, in a new
page of a warm Chromium; the median counts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from recognizer.console import table
from recognizer.demo import DATA
from recognizer.report import Report, write_report
from tests.recognizer.report.runs import mixed_rows, write_run

PICTURES = 500
SIZE_WH = (1600, 1200)  # 2 megapixels
VIEW = {"width": 1440, "height": 900}
ACTIONS = {
    "a label": "report.filters.set({label: 3})",
    "all again": "report.filters.clear()",
    "a text": "report.filters.set({text: '0123'})",
    "smallest margin first": "report.filters.clear(), report.filters.set({sort: 'almost'})",
    "last row": "report.list.choose(report.filters.order.length - 1)",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = mixed_rows(arguments.rows)
        for number, row in enumerate(rows[:PICTURES]):
            write_photo(folder / "photos" / row.path, number)
        run = write_run(folder / "results.jsonl", rows, folder / "photos")
        few = write_run(folder / "few.jsonl", rows[:PICTURES], folder / "photos")
        truth = folder / "truth.csv"
        truth.write_text("path,label\n" + "".join(f"{row.path},{row.path.split('/')[0]}\n" for row in rows))
        report, without = timed(run, folder / "report", most_pictures=0)
        report, compared = timed(run, folder / "report", most_pictures=0, truth=truth, against=run)
        _, drawn = timed(few, folder / "few")
        _, again = timed(few, folder / "few")
        size = sum(path.stat().st_size for path in report.index.parent.rglob("*") if path.is_file())
        lines = [
            [f"writing {arguments.rows:,} rows ({run.stat().st_size / 1e6:.0f} MB), s", without],
            ["the same with truth and another run, s", compared],
            ["size of that folder, MB", f"{size / 1e6:.0f}"],
            [f"a report of {PICTURES} photographs of 2 megapixels, s; again", f"{drawn}; {again}"],
        ]
        with sync_playwright() as tools:
            browser = tools.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            look(browser, report)  # fills the page cache
            looks = [look(browser, report) for _ in range(arguments.rounds)]
            browser.close()
        lines += [[what, f"{statistics.median(each[what] for each in looks):.3f}"] for what in looks[0]]
    print(table(["what", "figure"], lines))


def write_photo(path: Path, number: int) -> None:
    photos = sorted((DATA / "photos").glob("*.jpg"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(photos[number % len(photos)]) as photo:
        photo.convert("RGB").resize(SIZE_WH).save(path, quality=90, comment=str(number).encode())


def timed(results: Path, output: Path, **options: Any) -> tuple[Report, str]:
    """Write a report; returns it with its seconds by the clock and of the processor, without decoding processes."""
    started, used = time.perf_counter(), time.process_time()
    report = write_report(results, output, **options)
    return report, f"{time.perf_counter() - started:.1f}, {time.process_time() - used:.1f}"


def look(browser: Browser, report: Report) -> dict[str, float]:
    """Open the page once and use it."""
    page = browser.new_page(viewport=VIEW)
    started = time.perf_counter()
    page.goto(report.index.as_uri(), wait_until="commit")
    page.wait_for_selector(".card")
    found = {"first view, s": time.perf_counter() - started}
    page.wait_for_selector(f'body[data-loaded="{report.rows}"]')
    found["all rows loaded, s"] = time.perf_counter() - started
    for what, code in ACTIONS.items():
        found[f"{what}, s"] = (
            page.evaluate(f"() => {{ const t = performance.now(); {code}; return performance.now() - t }}") / 1e3
        )
    page.close()
    return found


if __name__ == "__main__":
    main()
