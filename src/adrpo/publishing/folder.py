"""The folder that is uploaded: weights, card, and the samples that the card shows."""

import json
import shutil
from pathlib import Path

from adrpo.errors import AdrpoError
from adrpo.publishing.base import Base
from adrpo.publishing.card import card
from adrpo.publishing.shown import shown_of
from adrpo.report.kept import kept_weights
from adrpo.runs.directory import RunDirectory
from adrpo.runs.durable import replace_folder
from adrpo.runs.manifest import CARD, FILE, check_weights
from adrpo.runs.model_folder import ADAPTER_CONFIG, named_base
from adrpo.runs.record import check_record

LEFT_OUT = (FILE, CARD, "training_args.bin")
"""Files of ``final/`` that stay: its checksums, which are of the folder as training left it; its
card, which names no repository; and a pickle of TRL's, which nobody should load."""


def check_publishable(run: RunDirectory) -> None:
    """Raise AdrpoError where ``run`` is not finished or kept its untrained weights, or where a file
    that a publication rests on is damaged."""
    if not run.final.is_dir():
        raise AdrpoError(
            f"publish: expected a finished run with {run.final}; received one without; finish it "
            f"by adrpo train --resume, and publish it then"
        )
    check_weights(run.final)
    check_record(run, "", option="publish")
    kept = kept_weights(run, run.read_settings())
    if kept is not None and kept.step == 0:
        raise AdrpoError(
            f"publish: expected trained weights; received {run.final}, in which early stopping "
            f"kept the untrained ones; train with other settings, and publish that run"
        )


def compose(run: RunDirectory, repo: str, base: Base, folder: Path) -> Path:
    """Write the content of the repository ``repo`` for ``run`` into ``folder``, which is new or
    empty, and return it.

    Raises AdrpoError as ``check_publishable`` does.
    """
    check_publishable(run)
    shown = shown_of(run)
    text = card(run, repo, base, shown)
    with replace_folder(folder) as partial:
        for path in sorted(run.final.iterdir()):
            if path.name not in LEFT_OUT:
                shutil.copy(path, partial / path.name)
        for name, source in shown.files.items():
            (partial / name).parent.mkdir(exist_ok=True)
            shutil.copy(source, partial / name)
        (partial / CARD).write_text(text, encoding="utf-8")
        if base.hub_id is not None:
            _name_base(partial / ADAPTER_CONFIG, base.hub_id)
    return folder


def unknown_base(folder: Path, base: Base) -> str:
    """A sentence where the adapter in ``folder`` names a folder of this machine as its base; empty
    otherwise."""
    named = named_base(folder / ADAPTER_CONFIG)
    if named is None or base.hub_id is not None:
        return ""
    return (
        f"{ADAPTER_CONFIG} names the base {named}, a folder of this machine, which nobody else has "
        f"and all can read; name the base's id on the Hub by --base"
    )


def _name_base(path: Path, hub_id: str) -> None:
    """Let PEFT's file of an adapter name the base on the Hub, where there is such a file."""
    if path.is_file() and named_base(path) != hub_id:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["base_model_name_or_path"] = hub_id
        path.write_text(json.dumps(content, indent=2, sort_keys=True), encoding="utf-8")
