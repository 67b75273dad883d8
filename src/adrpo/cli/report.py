"""``adrpo report``: the page of a run, or one page of several."""

from pathlib import Path
from typing import Annotated

import typer

from adrpo.errors import AdrpoError

PAGE = "report.html"


def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of runs, finished or still training.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            help="File of the page of several runs.", show_default="report.html beside the first"
        ),
    ] = None,
) -> None:
    """Write a run's report.html anew and say what its evaluations found; of several runs one
    page."""
    from adrpo.report import write_overview, write_report
    from adrpo.report.result import result_lines

    if len(runs) == 1:
        if output is not None:
            raise AdrpoError(
                f"--output: expected several runs; received one, whose page is {runs[0] / PAGE}; "
                f"leave --output out"
            )
        page = write_report(runs[0])
        typer.echo("\n".join(result_lines(runs[0])))
    else:
        page = write_overview(runs, output or runs[0].resolve().parent / PAGE)
    typer.echo(f"Report: {page}")
