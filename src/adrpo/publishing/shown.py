"""The samples that a card shows, and their files."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from adrpo.publishing.markdown import escaped
from adrpo.report.completions import Completion, held_out_completions
from adrpo.report.kept import kept_weights
from adrpo.report.pictures import read_prompts
from adrpo.runs.directory import RunDirectory

PICTURED = 6
"""Held-out prompts of whose pictures a card has a pair."""

SAID = 3
"""Held-out prompts of whose completions a card has a pair."""

FOLDER = "samples"


@dataclass(frozen=True)
class ShownPicture:
    """A prompt with a picture of the base and one of the trained model, by their files beside the
    card; empty where there is none."""

    prompt: str
    base: str
    final: str


@dataclass(frozen=True)
class ShownTexts:
    """A prompt with a completion of each model, ("Base", completion) first; ``clips`` are files."""

    prompt: str
    answer: str
    clips: list[str]
    said: list[tuple[str, Completion]]


@dataclass(frozen=True)
class Shown:
    """The samples of a card; ``files`` are their names beside it -> where they lie in the run."""

    pictures: list[ShownPicture] = field(default_factory=list[ShownPicture])
    completions: list[ShownTexts] = field(default_factory=list[ShownTexts])
    files: dict[str, Path] = field(default_factory=dict[str, Path])
    tuned: str = "Fine-tuned"
    """The trained model in words: with the step, where ``final/`` has another one's weights."""

    def without_files(self) -> "Shown":
        """The samples that are text, for a card beside which no file of them lies."""
        return Shown(
            completions=[replace(own, clips=[]) for own in self.completions], tuned=self.tuned
        )

    def picture_rows(self) -> list[list[str]]:
        """The table of pictures in Markdown; empty without any."""
        if not self.pictures:
            return []
        rows = [["Prompt", "Base", self.tuned]]
        for own in self.pictures:
            sides = {"base": own.base, "fine-tuned": own.final}
            images = [f"![{name}]({file})" if file else "" for name, file in sides.items()]
            rows.append([escaped(own.prompt), *images])
        return rows

    def widget(self) -> list[dict[str, Any]]:
        """The pictures of the trained model in the form of the Hub's gallery."""
        return [
            {"text": own.prompt, "output": {"url": own.final}} for own in self.pictures if own.final
        ]


def shown_of(run: RunDirectory, final: Path | None = None) -> Shown:
    """The samples of ``run`` that its card shows: one of each of the first held-out prompts, before
    training and at the last evaluation; ``final`` as ``kept_weights`` takes it."""
    kept = kept_weights(run, run.read_settings(), final)
    shown = Shown(tuned=f"Fine-tuned, step {kept.last}") if kept else Shown()
    _add_pictures(run, shown)
    _add_completions(run, shown)
    return shown


def _add_pictures(run: RunDirectory, shown: Shown) -> None:
    for number, (prompt, _) in enumerate(read_prompts(run.samples)["held_out"]):
        if len(shown.pictures) == PICTURED:
            break
        sides = []
        for side in ("base", "final"):
            source = next(iter(sorted((run.samples / side).glob(f"{number:02d}-*.png"))), None)
            name = f"{FOLDER}/{side}-{number:02d}.png" if source else ""
            if source is not None:
                shown.files[name] = source
            sides.append(name)
        if any(sides):
            shown.pictures.append(ShownPicture(prompt, *sides))


def _add_completions(run: RunDirectory, shown: Shown) -> None:
    for number, group in enumerate(held_out_completions(run.samples)[:SAID]):
        clips = []
        for clip in group.clips:
            if clip.uri:
                name = f"{FOLDER}/clip-{number}-{len(clips)}{Path(clip.name).suffix}"
                shown.files[name] = run.samples / clip.name
                clips.append(name)
        pair = [("Base", group.base[:1]), (shown.tuned, group.final[:1])]
        said = [(name, item) for name, items in pair for item in items]
        shown.completions.append(ShownTexts(group.prompt, group.answer, clips, said))
