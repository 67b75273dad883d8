"""The HTML page of a run, made from the run's files only."""

from adrpo.report.page import write_report

__all__ = ["write_report"]
