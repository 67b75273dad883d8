"""Keep what the repository has of a finished comparison, and print the tables of its page.

``python benchmarks/comparison_tables.py keep FOLDER benchmarks/results/NAME`` copies tables,
figures and summary of a comparison's ``FOLDER``, and packs into ``runs.tar.xz`` what its runs say:
all but adapters, checkpoints, pictures, sounds and pages. Unpacked beside ``comparison.json``,
``best-of-n.json`` and ``guidance.json``, ``adrpo compare ... --summary-only`` draws it again.

``python benchmarks/comparison_tables.py redraw NAME...`` does so: it draws tables, figures and
summary of benchmarks/results/NAME again from what is kept there, by the command in its summary.
With ``--record`` the comparison's record is written again too, for a command with fewer recipes or
seeds than the record has.

``python benchmarks/comparison_tables.py pairs NAME`` writes pairs.md of benchmarks/results/NAME
(``penalty_pairs``) from what is kept there.

``python benchmarks/comparison_tables.py show`` prints the tables of the ablation and of the reward
budgets as docs/results/text-to-image.md has them, and that of the losses as losses.md has it.
"""

import argparse
import io
import json
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import penalty_pairs
from embedded_quality import pairs_in_order

RESULTS = Path(__file__).parent / "results"
LEFT_OUT = (".png", ".flac", ".safetensors", ".html", ".pt", ".log", ".lock")
INPUTS, METRICS = "inputs.json", "metrics.jsonl"
NOT_KEPT = b"The adapter is not kept in this archive.\n"
"""In final/ of each run: `adrpo compare` takes a run without anything there as unfinished."""


def redraw(name: str, *, record: bool) -> None:
    """Draw a kept comparison again; its runs are those of its archive, none is trained."""
    output = RESULTS / name
    command = shlex.split(json.loads((output / "summary.json").read_text())["command"])
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / name
        folder.mkdir()
        for path in output.glob("*.json"):
            shutil.copy(path, folder / path.name)
        with tarfile.open(output / "runs.tar.xz") as archive:
            archive.extractall(folder, filter="data")
        arguments = [part for part in command[1:] if part != "--summary-only"]
        if "--output-dir" in arguments:
            at = arguments.index("--output-dir")
            del arguments[at : at + 2]
        if not record:
            arguments.append("--summary-only")
        subprocess.run(
            [sys.executable, "-m", "adrpo", *arguments, "--output-dir", str(folder)], check=True
        )
        summary = json.loads((folder / "summary.json").read_text())
        summary["command"] = shlex.join(command)
        (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        copy_drawn(folder, output)


def copy_drawn(folder: Path, output: Path) -> None:
    """Copy tables, figures of unseen prompts and summary of a comparison's folder; pictures stay as
    they are where the runs have none to draw."""
    output.mkdir(parents=True, exist_ok=True)
    known = ("comparison.json", "best-of-n.json", "guidance.json", "summary.json")
    for path in (*folder.iterdir(), *(folder / "figures").glob("*.png")):
        wanted = path.name in known or path.suffix in (".md", ".csv", ".tex", ".png")
        if wanted and not path.name.endswith("-seen.png"):
            shutil.copy(path, output / path.name)


def keep(folder: Path, output: Path) -> None:
    copy_drawn(folder, output)
    with tarfile.open(output / "runs.tar.xz", "w:xz") as archive:
        archive.add(folder / "runs", "runs", filter=_kept)
        for run in sorted(path for path in (folder / "runs").iterdir() if path.is_dir()):
            _add(archive, f"runs/{run.name}/final/NOT_KEPT", NOT_KEPT)
            if (run / INPUTS).exists():
                _add(archive, f"runs/{run.name}/{INPUTS}", _placeless(run / INPUTS))


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _placeless(file: Path) -> bytes:
    """The inputs of a run, the folder that it was started in written as a dot."""
    content = file.read_text(encoding="utf-8")
    return content.replace(json.loads(content)["folder"], ".").encode()


def _kept(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    parts = Path(entry.name).parts
    apart = {"checkpoints", "pairs", "final"} & set(parts[2:3])
    # A manifest names the files that are left out.
    if apart or entry.name.endswith((*LEFT_OUT, INPUTS, "/manifest.json")):
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def interval(estimate: dict[str, float], places: int, *, sign: str = "-") -> str:
    """``mean [low, high]``; ``sign`` is the format's: + also before a number above 0."""
    mean, low, high = (f"{estimate[key]:{sign}.{places}f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def unseen(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / name / "summary.json").read_text())["splits"]["unseen"]


def from_run(name: str, run: str, file: str) -> list[Any]:
    """The JSON lines of a file of an archived run."""
    with tarfile.open(RESULTS / name / "runs.tar.xz") as archive:
        return [json.loads(line) for line in archive.extractfile(f"runs/{run}/{file}") or ()]


def ablation() -> dict[str, str]:
    """Recipe -> the cells of its row: changes, diversity kept, divergence."""
    split = unseen("ablation")
    return {
        method: " | ".join(
            [
                interval(change["clip_score"], 2),
                interval(change["gold_accuracy"], 3),
                interval(split["kept"][method]["clip_diversity"], 3),
                f"{change['divergence']['mean']:.5f}",
            ]
        )
        for method, change in split["change"].items()
    }


def reward_budgets(seeds: int = 3) -> list[str]:
    """A row for each reward: its pairs in order on the base's images, and what training changed."""
    name, rows = "reward_budgets", []
    split = unseen(name)
    for steps in (2800, 5200, 7600, 10000):
        method = f"steps-{steps}"
        (base,) = from_run(name, f"{method}-seed0", "samples/step-000000/values.json")
        images = zip(np.array(base["clip_score"]), np.array(base["gold_accuracy"]), strict=True)
        in_order = [pairs_in_order(*pair) for pair in images if 0 < pair[1].mean() < 1]
        runs = [from_run(name, f"{method}-seed{k}", "evaluations.jsonl") for k in range(seeds)]
        rise = np.mean([run[-1]["clip_score"] - run[0]["clip_score"] for run in runs])
        change = split["change"][method]
        cells = [
            f"{steps:,}",
            f"{np.mean(in_order):.2f}",
            f"+{rise:.2f}",
            interval(change["gold_accuracy"], 3),
            interval(change["clip_score_evaluation"], 2),
            interval(split["kept"][method]["clip_diversity"], 3),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def long_runs() -> list[str]:
    """Score and gold accuracy at every evaluation of the two long runs."""
    rows = []
    for steps in (2800, 10000):
        run = from_run("reward_budgets_long", f"steps-{steps}-seed0", "evaluations.jsonl")
        for label, key, places in (
            ("its own score", "clip_score", 2),
            ("gold accuracy", "gold_accuracy", 3),
        ):
            cells = " | ".join(f"{row[key]:.{places}f}" for row in run)
            rows.append(f"| {steps:,} | {label} | {cells} |")
    return rows


def losses(name: str = "losses") -> list[str]:
    """A row for each loss and penalty on flow/verifiable: what it reached, and what it called."""
    split, seeds = unseen(name), json.loads((RESULTS / name / "summary.json").read_text())["seeds"]
    rows = []
    for method, values in split["methods"].items():
        calls = [
            sum(row["model_calls"] for row in from_run(name, f"{method}-seed{seed}", METRICS))
            for seed in seeds
        ]
        cells = [
            method,
            interval(values["gold_accuracy"], 3),
            interval(split["change"][method]["gold_accuracy"], 3, sign="+"),
            interval(split["kept"][method]["clip_diversity_right"], 2),
            f"{values['divergence']['mean']:.5f}",
            f"{np.mean(calls):.3g}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    keeping = commands.add_parser("keep")
    keeping.add_argument("folder", type=Path)
    keeping.add_argument("output", type=Path)
    drawing = commands.add_parser("redraw")
    drawing.add_argument("names", nargs="+")
    drawing.add_argument("--record", action="store_true", help="write comparison.json again")
    commands.add_parser("pairs").add_argument("name")
    commands.add_parser("show")
    options = parser.parse_args()
    if options.command == "keep":
        keep(options.folder, options.output)
        return
    if options.command == "pairs":
        from recomputed import recomputed

        text = recomputed(options.name).tables[penalty_pairs.FILE]
        (RESULTS / options.name / penalty_pairs.FILE).write_text(text, encoding="utf-8")
        return
    if options.command == "redraw":
        for name in options.names:
            redraw(name, record=options.record)
        return
    for method, cells in ablation().items():
        print(f"| {method} | {cells} |")
    print(*reward_budgets(), *long_runs(), *losses(), sep="\n")


if __name__ == "__main__":
    main()
