"""``adrpo report``: the page of a run."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run, finished or still training.")],
) -> None:
    """Write a run's report.html anew and say what its evaluations found."""
    from adrpo.report import write_report
    from adrpo.report.result import result_lines

    page = write_report(run)
    typer.echo("\n".join(result_lines(run)))
    typer.echo(f"Report: {page}")
