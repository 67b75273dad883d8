"""Preference pairs on disk: two images of one prompt, the first preferred.

A folder with ``pairs.jsonl``, one object a line, {"prompt", "chosen", "rejected"}, the last two
being image files relative to the folder, and "negative_prompt" where guidance has one. The base's
own pairs are drawn into the run's folder; anyone's pairs of this form can be trained on.
"""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image

from adrpo.config import DpoSection, SamplingSection
from adrpo.core.reward_sums import RewardNormalization
from adrpo.data.base import Prompt, columns_of
from adrpo.data.files import utf_8_text
from adrpo.data.pictures import opened, read_picture
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.flow.models.prompt_set import encoded
from adrpo.flow.models.protocol import Draws, FlowPolicy
from adrpo.flow.path.draws import initial_noise
from adrpo.flow.prompt_columns import NEGATIVE, check_columns, negative_prompt_of
from adrpo.rewards.base import RewardTerm
from adrpo.rewards.normalizing import RewardNormalizer
from adrpo.rewards.scoring import score
from adrpo.runs.durable import write_durably
from adrpo.runs.processes import ALONE, Processes
from adrpo.runs.seeding import generator, preserved_generators, seed_everything

LISTING = "pairs.jsonl"
REQUIRED = ("prompt", "chosen", "rejected")
BATCH = 64
"""Images drawn at once."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One line of ``pairs.jsonl``, the files resolved."""

    prompt: str
    chosen: Path
    rejected: Path
    negative_prompt: str | None = None

    @property
    def asked(self) -> Prompt:
        """The prompt of both images."""
        negative = self.negative_prompt
        return Prompt(self.prompt, columns={} if negative is None else {NEGATIVE: negative})


def draw_pairs(
    folder: Path,
    policy: Draws,
    reward: Sequence[RewardTerm],
    prompts: Sequence[Prompt],
    settings: DpoSection,
    sampling: SamplingSection,
    *,
    seed: int,
    normalization: RewardNormalization = "none",
    processes: Processes = ALONE,
) -> None:
    """Fill ``folder``: for each prompt the frozen base draws ``pairs_samples`` images, and the one
    of highest and the one of lowest reward make a pair. A prompt whose images all score the same,
    or of which fewer than two are scored, gets none; images without a score are warned of. Terms of
    the reward are normalised among a prompt's images (``normalization``).

    A folder that has its listing stays as it is: the listing is written last. Several
    ``processes`` take turns at the prompts, and write into one folder that all of them see. The
    same ``seed`` gives the same pairs, whatever a reward draws from the global generators, which
    are afterwards as they were.

    Raises AdrpoError where no prompt gave a pair.
    """
    if processes.from_main((folder / LISTING).is_file):
        return
    folder.mkdir(parents=True, exist_ok=True)
    each, normalizer = settings.pairs_samples, RewardNormalizer(reward, normalization)
    lines: dict[int, str] = {}
    errors, excluded = dict[str, str](), 0
    at_once = max(BATCH // each, 1)
    for start in range(0, len(prompts), at_once)[processes.rank :: processes.count]:
        chunk = prompts[start : start + at_once]
        repeated = [prompt for prompt in chunk for _ in range(each)]
        x_0 = initial_noise(len(repeated), policy.latent_shape, seed, "pairs", start)
        with policy.reference():
            images = policy.decode(policy.sample(x_0, encoded(policy, repeated), sampling))
        with preserved_generators():
            seed_everything(generator(seed, "rewards of pairs", start).initial_seed())
            result = score(reward, images=images, **columns_of(repeated))
        errors |= result.errors
        excluded += int((~result.total.isfinite()).sum())
        groups = torch.arange(len(chunk)).repeat_interleave(each)
        totals = normalizer.of(result, groups).view(len(chunk), each)
        for place, (prompt, values) in enumerate(zip(chunk, totals, strict=True), start):
            drawn = images[(place - start) * each :][:each]
            if pair := {name: drawn[row] for name, row in _best_and_worst(values).items()}:
                lines[place] = _kept(folder, place, prompt, pair)
    parts = processes.gather((lines, errors, excluded))
    for others, other_errors, _ in parts:
        lines, errors = lines | others, other_errors | errors
    raised = f" ({', '.join(errors.values())})" if errors else ""
    _require_pairs(lines, len(prompts), raised)
    if processes.is_main:
        _tell(sum(part[-1] for part in parts), len(prompts) * each, raised)
        listing = "".join(lines[place] for place in sorted(lines))
        write_durably(folder / LISTING, listing.encode())
    processes.wait()


def _require_pairs(lines: dict[int, str], prompts: int, raised: str) -> None:
    if not lines:
        raise AdrpoError(
            f"pairs: expected prompts whose images differ in reward; all {prompts} prompts gave "
            f"equal rewards, or fewer than two scored images{raised}; choose another reward"
        )


def _tell(excluded: int, images: int, raised: str) -> None:
    if excluded:
        warnings.warn(
            f"pairs: {excluded} of {images} images have no score and are in no pair{raised}",
            AdrpoWarning,
            stacklevel=3,
        )


def _kept(folder: Path, place: int, prompt: Prompt, pair: dict[str, Image.Image | None]) -> str:
    """The line of the listing for a ``pair``, whose images are written."""
    line = {"prompt": prompt.text}
    if (negative := negative_prompt_of(prompt)) is not None:
        line[NEGATIVE] = negative
    for name, image in pair.items():
        assert image is not None, "a sample without an image has no score"
        line[name] = f"{place:06d}-{name}.png"
        image.save(folder / line[name])
    return json.dumps(line, ensure_ascii=False) + "\n"


def _best_and_worst(values: torch.Tensor) -> dict[str, int]:
    """ "chosen" and "rejected" -> which of a prompt's images; empty where none is preferred."""
    scored = values.isfinite().nonzero().flatten()
    if len(scored) < 2 or values[scored].max() == values[scored].min():
        return {}
    best, worst = scored[values[scored].argmax()], scored[values[scored].argmin()]
    return {"chosen": int(best), "rejected": int(worst)}


def read_pairs(folder: Path) -> list[Pair]:
    """The pairs of a folder; AdrpoError names the file and the line that is wrong."""
    listing = folder / LISTING
    try:
        lines = utf_8_text(listing).split("\n")
    except OSError as error:
        raise AdrpoError(
            f"algorithm.pairs: expected a folder with {LISTING}; {listing}: {error.strerror}"
        ) from None
    pairs = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            pairs.append(_pair(line, folder, f"{listing}, line {number}"))
    if not pairs:
        raise AdrpoError(f"{listing}: expected at least one pair, received an empty file")
    return pairs


def _pair(line: str, folder: Path, where: str) -> Pair:
    expected = 'an object with "prompt", "chosen" and "rejected", all text'
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise AdrpoError(
            f"{where}: expected {expected}; received text that is not JSON ({error.msg})"
        ) from None
    fields = [row.get(key) if isinstance(row, dict) else None for key in REQUIRED]
    if not all(isinstance(field, str) and field.strip() for field in fields):
        raise AdrpoError(f"{where}: expected {expected}, received {line.strip()[:60]}")
    prompt, *names = fields
    beside = Prompt(str(prompt), columns={NEGATIVE: row.get(NEGATIVE)})
    check_columns(where, [beside])
    files = [folder / str(name) for name in names]
    for file in files:
        if not file.is_file():
            raise AdrpoError(f"{where}: expected an image file; {file} does not exist")
    return Pair(
        prompt=str(prompt),
        chosen=files[0],
        rejected=files[1],
        negative_prompt=negative_prompt_of(beside),
    )


def prompts_of(pairs: Sequence[Pair]) -> list[Prompt]:
    """The prompts of ``pairs``, each once, in their order."""
    first = {(pair.prompt, pair.negative_prompt): pair.asked for pair in pairs}
    return list(first.values())


def by_content(pair: Pair) -> Prompt:
    """A pair known by its prompt and the content of its files, whatever these are called."""
    files = {"chosen": pair.chosen, "rejected": pair.rejected}
    pictures = {name: file.read_bytes() for name, file in files.items()}
    return replace(pair.asked, columns={**pair.asked.columns, **pictures})


def check_images(pairs: Sequence[Pair], policy: FlowPolicy) -> None:
    """Raise AdrpoError unless all images have the size that ``policy`` draws.

    Only the files' headers are read. The image processors of diffusers would scale an image of
    another size, whatever its proportions.
    """
    expected = (policy.width, policy.height)
    for file in (file for pair in pairs for file in (pair.chosen, pair.rejected)):
        with opened(file) as image:
            size = image.size
        if size != expected:
            raise AdrpoError(
                f"{file}: expected an image of {policy.width}x{policy.height} pixels (width x "
                f"height), as the model draws them; received {size[0]}x{size[1]}; crop and scale "
                "it, or set model.width and model.height"
            )


def load_latents(pairs: Sequence[Pair], policy: FlowPolicy) -> tuple[torch.Tensor, torch.Tensor]:
    """x_1 of the chosen and of the rejected images, each [pairs, *latent_shape], on the CPU.

    Raises AdrpoError for a damaged image.
    """
    sides = []
    for name in ("chosen", "rejected"):
        parts = []
        for start in range(0, len(pairs), BATCH):
            files = [getattr(pair, name) for pair in pairs[start : start + BATCH]]
            images = [read_picture(file) for file in files]
            parts.append(policy.encode_images(images).cpu())
        sides.append(torch.cat(parts))
    return sides[0], sides[1]
