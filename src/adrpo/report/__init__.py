"""HTML pages of runs, made from the runs' files only."""

from adrpo.report.overview import write_overview
from adrpo.report.page import write_report

__all__ = ["write_overview", "write_report"]
