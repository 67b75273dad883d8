"""``adrpo publish``: a finished run as a repository on the Hub."""

import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adrpo.cli.folders import free_folder
from adrpo.errors import AdrpoError, AdrpoWarning

if TYPE_CHECKING:
    from adrpo.publishing import Base

FOLDER = Path("runs/publication")


def publish(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.", show_default=False)],
    repo: Annotated[
        str,
        typer.Option(help="Repository: owner/name, or a name of your own.", show_default=False),
    ],
    private: Annotated[
        bool, typer.Option("--private", help="Make it private; refused where it is public.")
    ] = False,
    base: Annotated[
        str | None,
        typer.Option(
            help="Hub id of the base, where the run names a folder with a copy of it.",
            show_default="what the run names",
        ),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            "--license", help="Licence of the weights.", show_default="that of the base's card"
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Write what would be uploaded into a folder, and stop."),
    ] = False,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a dry run; a used one stays as it is.", show_default="runs/publication"
        ),
    ] = None,
) -> None:
    """Upload the weights of a run with a model card: method, recipe, prompts, metrics with
    intervals, samples, and how to load them."""
    from adrpo import __version__, publishing
    from adrpo.runs import RunDirectory

    if not dry_run:
        _check_unused(output_dir)
    publishing.check_name(repo)
    opened = RunDirectory.open(run)
    publishing.check_publishable(opened)
    if not dry_run:
        publishing.check_token()
    known = publishing.base_of(opened, hub_id=base, licence=licence)
    _tell(known)
    if dry_run:
        folder = publishing.compose(opened, repo, known, free_folder(output_dir or FOLDER))
        _warn(publishing.unknown_base(folder, known))
        typer.echo(f"Would be uploaded to {repo}: {folder}")
        return
    with tempfile.TemporaryDirectory() as parent:
        folder = publishing.compose(opened, repo, known, Path(parent) / "publication")
        _warn(publishing.unknown_base(folder, known))
        name = run.resolve().name
        url = publishing.upload(
            folder, repo, private=private, message=f"Upload {name} of adrpo {__version__}"
        )
    typer.echo(f"Published: {url}")


def _check_unused(output_dir: Path | None) -> None:
    """Raise AdrpoError where an upload, which writes nothing here, has a folder."""
    if output_dir is not None:
        raise AdrpoError(
            f"--output-dir: expected --dry-run, whose folder it is; received {output_dir} alone; "
            f"add --dry-run, or leave --output-dir out"
        )


def _tell(base: "Base") -> None:
    licence = base.licence_text
    if licence:
        typer.echo(f"Base: {base.name}; licence: {licence}")
        return
    typer.echo(f"Base: {base.name}")
    _warn(
        f"the licence of {base.name} is not known, and the card names none; look at the base's own "
        f"page, and name the licence by --license"
    )


def _warn(sentence: str) -> None:
    if sentence:
        warnings.warn(sentence, AdrpoWarning, stacklevel=2)
