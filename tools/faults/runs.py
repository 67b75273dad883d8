"""The tiniest run of each domain, what may be asked of it, and what of its folder must be equal."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adrpo.cli.domains import door_of
from adrpo.evaluation.playing import Asked, open_playground
from adrpo.evaluation.targets import Target, evaluate_target
from adrpo.publishing import base_of, check_publishable, compose, unknown_base
from adrpo.report import write_overview, write_report
from adrpo.report.result import result_lines
from adrpo.runs.directory import RunDirectory

TIMINGS = ("seconds", "samples_per_second")
SETTINGS: dict[str, dict[str, Any]] = {
    "training": {"steps": 4},
    "evaluation": {"every": 2, "samples_per_prompt": 2},
    "checkpoint": {"every": 1, "keep": 3},
}

TIMED = ("manifest.json", "environment.json", "state.pt", "trainer_state.json", "report.html")
"""Files with times or places in them, or checksums of such."""

OTHER = "other"
"""Name of the folder beside a run with the run that nothing happened to."""

UNREAD = ("training_args.bin", "README.md")
"""Files that transformers and TRL write and nothing of ours reads, but for CARD."""

CARD = "final/README.md"
"""The card of a finished run, which is ours."""


@dataclass(frozen=True)
class Domain:
    """A domain by its name, and its configuration for a material in a folder."""

    name: str
    config: Callable[[Path], Any]

    def train(self, material: Path, folder: Path, *, resume: bool) -> None:
        """Train, or go on, as ``adrpo train`` does, and write the report."""
        config = self.config(material)
        door_of(config).build(config).train(folder, resume=resume, progress=False)
        write_report(folder)


def image(_: Path) -> Any:
    """The configuration of a run of pictures."""
    from support.tiny_runs import tiny_config

    reward: Any = [{"name": "support.tiny_runs:darkness"}]
    return tiny_config(**SETTINGS, reward=reward)


def language(material: Path) -> Any:
    """The configuration of a run of texts, whose model is written once."""
    from support.tiny_language_runs import tiny_language_config, write_material

    if not (material / "texts").exists():
        (material / "texts").mkdir()
        write_material(material / "texts")
    return tiny_language_config(material / "texts", **SETTINGS)


def audio(material: Path) -> Any:
    """The configuration of a run of answers about sound, whose model is written once."""
    from support.tiny_audio_runs import tiny_audio_config, write_thinker

    if not (material / "sounds").exists():
        write_thinker(material / "sounds")
    return tiny_audio_config(material / "sounds", **SETTINGS)


DOMAINS = {
    name: Domain(name, config)
    for name, config in {"image": image, "language": language, "audio": audio}.items()
}


def report(run: Path) -> list[str]:
    """The lines of ``adrpo report`` about a run, and its page."""
    page = write_report(run).read_text(encoding="utf-8")
    return [*result_lines(run), page]


def evaluate(run: Path) -> list[str]:
    """The row that ``adrpo evaluate`` measures of a run."""
    out = run.with_name("evaluation")
    row = evaluate_target(Target.resolve(str(run), door_of), out)
    return [json.dumps({key: value for key, value in row.items() if key != "target"})]


def overview(run: Path) -> list[str]:
    """The page that ``adrpo report`` writes of a run and the one beside it."""
    page = write_overview([run, run.with_name(OTHER)], run.with_name("page.html"))
    return [page.read_text(encoding="utf-8")]


def publish(run: Path) -> list[str]:
    """A digest of what ``adrpo publish`` would upload."""
    opened = RunDirectory.open(run)
    check_publishable(opened)
    base = base_of(opened, licence="mit", ask=False)
    folder = compose(opened, "who/what", base, run.with_name("publication"))
    return [unknown_base(folder, base), _digest(folder)]


def play(run: Path) -> list[str]:
    """Digests of what the page of ``adrpo play`` shows first, of the first step and of the last,
    and what it says."""
    with open_playground([str(run)], door_of) as playground:
        asked = Asked(prompt=playground.prompts[0])
        places = (playground.places[0], playground.places[-1])
        panels = [panel for place in places for panel in playground.play(asked, place)]
        return [*playground.notices, *(panel.error or _shown(panel.played) for panel in panels)]


def _shown(played: Any) -> str:
    sample = played.sample
    drawn = sample.tobytes() if hasattr(sample, "tobytes") else repr(sample).encode()
    return f"{hashlib.sha256(drawn).hexdigest()} {played.scores} {played.errors}"


def _digest(folder: Path) -> str:
    """One of all files of a folder, by their names."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


USES: dict[str, Callable[[Path], list[str]]] = {
    "report": report,
    "report of two": overview,
    "evaluate": evaluate,
    "publish": publish,
    "play": play,
}
"""Name of a command -> the answers that it gives of a finished run."""


def content(run: Path) -> dict[str, Any]:
    """Name -> what must be equal of each file of a finished run."""
    found: dict[str, Any] = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.is_dir() or (path.name in UNREAD and name != CARD):
            continue
        if path.name in TIMED:
            found[name] = "there"
        elif path.name == "metrics.jsonl":
            lines = path.read_text(encoding="utf-8").splitlines()
            found[name] = [_untimed(json.loads(line)) for line in lines]
        else:
            found[name] = path.read_bytes()
    return found


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Names of files that differ, or that only one of them has."""
    names = sorted(found.keys() | expected.keys())
    return [name for name in names if found.get(name) != expected.get(name)]


def _untimed(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if not any(part in key for part in TIMINGS)}
