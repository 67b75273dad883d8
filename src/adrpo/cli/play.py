"""``adrpo play``: a page on which what was trained is tried out."""

import importlib.util
import socket
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from adrpo.cli.domains import door_of
from adrpo.cli.quiet import silence_loading
from adrpo.errors import AdrpoError, AdrpoWarning, in_a_line

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def play(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Folders of runs of one domain.", show_default=False),
    ],
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Port of the page.", show_default="a free one from 7860 on"
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            help="Address that the page listens on; any but that of this machine alone opens it to "
            "others."
        ),
    ] = "127.0.0.1",
) -> None:
    """Open a page for a browser: a prompt, drawn by the base and the runs from the same noise, with
    the strength of the adapter, the steps, the seed, the checkpoints and the scores."""
    if importlib.util.find_spec("gradio") is None:
        raise AdrpoError(
            "play: expected the package gradio, which cannot be found; install adrpo with its "
            "extra: pip install '.[play]' in the folder of adrpo"
        )
    from adrpo.cli.play_page import serve
    from adrpo.evaluation.playing import open_playground
    from adrpo.runs.announcer import working

    check_host(host)
    silence_loading()
    with ExitStack() as stack:
        with working("loading the models"):
            playground = stack.enter_context(open_playground([str(run) for run in runs], door_of))
        for notice in [*playground.notices, *_open_to_others(host)]:
            warnings.warn(notice, AdrpoWarning, stacklevel=1)
        serve(playground, host=host, port=port, say=typer.echo)


def check_host(host: str) -> None:
    """Raise AdrpoError where this machine has no address ``host``: Gradio would try a hundred ports
    there for five seconds each, after the models were loaded."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.bind(address)
    except (OSError, UnicodeError) as error:
        raise AdrpoError(
            f"--host: expected an address of this machine; received {host[:100]!r} "
            f"({in_a_line(error)}); name another, or leave --host out"
        ) from None


def _open_to_others(host: str) -> list[str]:
    """A sentence on a page that other machines reach; none of one that they don't."""
    if host in LOOPBACK:
        return []
    return [
        f"the page listens on {host}: whoever reaches this machine there can draw with these "
        f"models, without a password"
    ]
