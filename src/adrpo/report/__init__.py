"""HTML pages of runs, made from the runs' files only."""

from adrpo.report.live import make_live_server
from adrpo.report.overview import write_overview
from adrpo.report.page import write_report

__all__ = ["make_live_server", "write_overview", "write_report"]
