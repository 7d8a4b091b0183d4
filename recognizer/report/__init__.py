"""Results as a page to look through: a folder that a browser opens from the disk, without a server or a network.

Start at `write_report`. This package must not know how images are recognised, only the rows of `recognizer.results`;
what the page does with them is in the scripts of `page/`.
"""

from recognizer.report.report import Report, write_report

__all__ = ["Report", "write_report"]
