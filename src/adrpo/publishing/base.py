"""The model that a run's weights belong to, as a card names it, and its licence."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adrpo.data.rows import is_hub_id
from adrpo.errors import AdrpoError
from adrpo.publishing.hub import check_name
from adrpo.runs.directory import RunDirectory
from adrpo.runs.inputs import read_record

EMBEDDED = "embedded"
EMBEDDED_LICENCE = {"license": "apache-2.0"}
"""Licence of the models that ship with the package."""

KEYS = ("license", "license_name", "license_link")
"""Keys of a card that tell a licence; a name and a link stand beside the licence "other"."""

SECONDS = 10.0
"""Longest wait for the Hub's answer on the base."""


@dataclass(frozen=True, kw_only=True)
class Base:
    """The base of a run: ``name`` as people read it, ``hub_id`` where it lies on the Hub, None of a
    folder of this machine, and its ``licence`` by KEYS, empty where it is not known."""

    name: str
    hub_id: str | None = None
    licence: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def is_embedded(self) -> bool:
        return self.hub_id is None and self.name == EMBEDDED

    @property
    def words(self) -> str:
        """The base in a sentence."""
        if self.is_embedded:
            return "adrpo's embedded model"
        return self.hub_id or f"{self.name} (a folder of the machine that trained)"

    @property
    def licence_text(self) -> str:
        """The licence in words; empty where it is not known."""
        found = self.licence
        return found.get("license_name") or found.get("license", "")


def base_of(
    run: RunDirectory, *, hub_id: str | None = None, licence: str | None = None, ask: bool = True
) -> Base:
    """The base of ``run``.

    Args:
        run: whose model.pretrained is "embedded", a Hub id or a folder.
        hub_id: the base's id on the Hub, where the run names a folder with a copy of it.
        licence: the licence as the user states it, in the place of the base's own card.
        ask: whether the Hub may be asked for the card of a base that is not on this machine.

    Raises:
        AdrpoError: ``hub_id`` is none, or stands beside a run whose base has another one.
    """
    model = run.read_settings().get("model")
    pretrained = str(model.get("pretrained", "") if isinstance(model, Mapping) else "")
    stated = {"license": licence} if licence else None
    if pretrained == EMBEDDED and hub_id is None:
        return Base(name=EMBEDDED, licence=stated or EMBEDDED_LICENCE)
    folder = _folder(run, pretrained)
    if hub_id is not None:
        check_name(hub_id, "--base", needs_owner=True)
        if folder is None and is_hub_id(pretrained) and hub_id != pretrained:
            raise AdrpoError(
                f"--base: expected {pretrained}, which the run was trained on, or none; received "
                f"{hub_id}; leave --base out"
            )
    own = hub_id or (pretrained if folder is None and is_hub_id(pretrained) else None)
    found = stated or _licence(_card(folder, own, ask))
    return Base(name=own or Path(pretrained).name or pretrained, hub_id=own, licence=found)


def _folder(run: RunDirectory, pretrained: str) -> Path | None:
    """The folder of this machine that ``pretrained`` names, from the run's own folder; None of a
    Hub id."""
    record = read_record(run)
    homes = [Path(record["folder"])] if record else []
    places = [home / Path(pretrained).expanduser() for home in (*homes, Path())]
    return next((place for place in places if place.is_dir()), None)


def _card(folder: Path | None, hub_id: str | None, ask: bool) -> Mapping[str, Any]:
    """The metadata of the base's own card: in its folder, in the Hub's cache, or on the Hub; empty
    without any that can be read."""
    from huggingface_hub import HfApi, ModelCard, try_to_load_from_cache

    path: Any = folder / "README.md" if folder else None
    if (path is None or not path.is_file()) and hub_id is not None:
        path = try_to_load_from_cache(hub_id, "README.md")
    try:
        if isinstance(path, str | Path) and Path(path).is_file():
            return ModelCard.load(path, ignore_metadata_errors=True).data.to_dict()
        if hub_id is None or not ask:
            return {}
        found = HfApi().model_info(hub_id, timeout=SECONDS).card_data
        return found.to_dict() if found is not None else {}
    except Exception:
        # Whatever a file or a server is at fault with, the licence is unknown then, and told so.
        return {}


def _licence(card: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(card[key]) for key in KEYS if isinstance(card.get(key), str) and card[key]}
