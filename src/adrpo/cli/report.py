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
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Serve the page to this machine's browser, anew while the runs go on."
        ),
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of --watch; 0 is any.", show_default="8765"),
    ] = None,
) -> None:
    """Write a run's report.html anew and say what its evaluations found; of several runs one
    page."""
    from adrpo.report import write_overview, write_report
    from adrpo.report.result import result_lines

    if watch:
        if output is not None:
            raise AdrpoError(
                f"--output: expected none beside --watch, which writes no file; received {output}; "
                f"leave one of the two out"
            )
        return _serve(runs, port)
    if port is not None:
        raise AdrpoError(
            f"--port: expected --watch, whose port it is; received {port} alone; add --watch, or "
            f"leave --port out"
        )
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


def _serve(runs: list[Path], port: int | None) -> None:
    """Serve the page of ``runs`` until Ctrl-C."""
    from adrpo.report.live import PORT, make_live_server

    with make_live_server(runs, PORT if port is None else port) as server:
        line = f"Report: {server.url} while the runs go on; Ctrl-C ends it"
        server.serve_until_stopped(line)
