"""Memory, open files, threads and the time of a step of a run that goes on for long.

``python benchmarks/soak.py [--domains image language audio] [--minutes 120] [--redraw]``

Each domain trains its embedded model by ``adrpo train``, one process on one thread, with few and
small samples a step so that steps, evaluations and checkpoints are many: a leak is of a step, an
evaluation or a checkpoint, and not of an hour. Every two seconds the process is looked at from
outside (/proc). The domains run side by side. A run ends after --minutes; one that ends by itself
before is a fault. A step's time is told twice: by the clock, which neighbours slow, and in seconds
of the processor over the minute before a look, which they slow less.

Written to benchmarks/results/soak/: ``<domain>.csv`` (a row a look), ``summary.json``, ``table.md``
and ``soak.png``. The summary has each column's median over the second and over the last quarter of
the looks, and the growth between them for 1,000 steps: what is loaded and cached at first is in
none. Beside them are the medians of the first and of the last ENDS looks.
"""

import argparse
import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib
from results_folder import markdown

from adrpo.runs.environment import environment_record

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ENDLESS = 1_000_000
SHARED = (
    f"training.steps={ENDLESS}",
    "training.learning_rate_schedule=constant",
    "training.learning_rate=1e-6",
    "training.warmup_steps=0",
    "evaluation.every=50",
    "evaluation.samples_per_prompt=2",
    "checkpoint.every=25",
)
"""Overrides of every domain: the policy hardly moves, so that no run diverges."""
RUNS: dict[str, tuple[str, ...]] = {
    "image": (
        "flow/adrpo",
        "training.prompts_per_step=2",
        "training.samples_per_prompt=2",
        "training.timesteps_per_sample=1",
        "sampling.steps=2",
        "evaluation.sampling.steps=2",
        "prompts.held_out_size=8",
        "prompts.train_size=200",
    ),
    "language": (
        "llm/embedded",
        "training.prompts_per_step=2",
        "training.samples_per_prompt=4",
        "training.micro_batch_size=8",
        "prompts.held_out_size=8",
        "prompts.train_size=200",
    ),
    "audio": (
        "audio/embedded",
        "training.prompts_per_step=2",
        "training.samples_per_prompt=4",
        "training.micro_batch_size=8",
        "prompts.held_out_size=9",
        "prompts.train_size=60",
    ),
}
SHOWN = {
    "memory_mb": "resident memory, MB",
    "handles": "open files",
    "threads": "threads",
    "step_seconds": "seconds of a step",
    "step_cpu_seconds": "processor's seconds of a step",
}
"""Columns of a look, behind seconds and step -> their words in the picture."""
PAUSE = 2.0
LOOKS_OF_A_MINUTE = 30
ENDS = 60
"""Looks, two minutes of them, whose medians are a run's beginning and end."""
OUTPUT = Path("benchmarks/results/soak")

Row = dict[str, float]


def look(process: int) -> Row:
    """Memory, open files, threads and spent processor time of a process, by /proc."""
    proc = Path("/proc") / str(process)
    status = dict(
        line.split(":", 1) for line in (proc / "status").read_text().splitlines() if ":" in line
    )
    # After the name, which may hold blanks: user and system time are the 12th and 13th field.
    times = (proc / "stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return {
        "memory_mb": int(status["VmRSS"].split()[0]) / 1024,
        "handles": len(os.listdir(proc / "fd")),
        "threads": int(status["Threads"]),
        "cpu_seconds": sum(map(int, times)) / os.sysconf("SC_CLK_TCK"),
    }


def last_step(metrics: Path) -> Row:
    """Number and seconds of the last step that a run has written; nothing before the first."""
    if not metrics.exists():
        return {}
    with metrics.open("rb") as file:
        file.seek(max(0, metrics.stat().st_size - 8192))
        lines = file.read().split(b"\n")
    if len(lines) < 2:
        return {}
    row = json.loads(lines[-2])
    return {"step": row["step"], "step_seconds": row["seconds_step"]}


def with_cpu_of_a_step(rows: list[Row]) -> list[Row]:
    """The looks from the second minute on, with ``step_cpu_seconds`` of the minute before each."""
    told = []
    for before, row in zip(rows, rows[LOOKS_OF_A_MINUTE:], strict=False):
        if steps := row["step"] - before["step"]:
            spent = (row["cpu_seconds"] - before["cpu_seconds"]) / steps
            told.append({k: v for k, v in row.items() if k != "cpu_seconds"})
            told[-1]["step_cpu_seconds"] = round(spent, 4)
    return told


def soak(domain: str, minutes: float) -> list[Row]:
    """The looks at one run; SystemExit where it ends by itself."""
    recipe, *own = RUNS[domain]
    with tempfile.TemporaryDirectory() as folder:
        run, log = Path(folder) / "run", Path(folder) / "log"
        command = [sys.executable, "-m", "adrpo", "train", recipe, *own, *SHARED]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*command, "--output-dir", str(run)],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        started, rows = time.monotonic(), list[Row]()
        while time.monotonic() - started < 60 * minutes:
            time.sleep(PAUSE)
            if process.poll() is not None:
                sys.exit(f"{domain}: the run ended by itself: {log.read_text()[-500:]}")
            if step := last_step(run / "metrics.jsonl"):
                seconds = {"seconds": round(time.monotonic() - started, 1)}
                rows.append(seconds | step | look(process.pid))
        process.send_signal(signal.SIGTERM)
        process.wait(300)
        return with_cpu_of_a_step(rows)


def summarise(rows: list[Row]) -> dict[str, Any]:
    """column -> medians of two quarters, the growth for 1,000 steps between their middles, and the
    medians of both ends."""
    quarter = len(rows) // 4
    second, last = rows[quarter : 2 * quarter], rows[-quarter:]
    steps = statistics.median(r["step"] for r in last) - statistics.median(
        r["step"] for r in second
    )
    found: dict[str, Any] = {"steps": int(rows[-1]["step"]), "minutes": rows[-1]["seconds"] / 60}
    for column in SHOWN:
        before, after = (statistics.median(r[column] for r in part) for part in (second, last))
        growth = (after - before) / steps * 1000
        ends = [statistics.median(r[column] for r in part) for part in (rows[:ENDS], rows[-ENDS:])]
        found[column] = {
            "second_quarter": before,
            "last_quarter": after,
            "by_1000_steps": growth,
            "ends": ends,
        }
    return found


def table(domains: dict[str, Any]) -> str:
    """The table of docs/results/memory-and-speed.md."""
    heads = ["domain", "steps", "memory, MB for 1,000 steps", "open files", "threads"]
    heads.append("processor's seconds of a step, first and last two minutes")
    rows = []
    for domain, own in domains.items():
        cells = [domain, f"{own['steps']:,}", f"{own['memory_mb']['by_1000_steps']:+.1f}"]
        cells += [f"{own[name]['by_1000_steps']:+.0f}" for name in ("handles", "threads")]
        cells.append(", ".join(f"{end:.3f}" for end in own["step_cpu_seconds"]["ends"]))
        rows.append(cells)
    return markdown(heads, rows)


def draw(looks: dict[str, list[Row]], file: Path) -> None:
    """A column of the picture for each domain, a row for each quantity."""
    figure, axes = plt.subplots(
        len(SHOWN),
        len(looks),
        figsize=(4 * len(looks), 2 * len(SHOWN)),
        sharex="col",
        squeeze=False,
    )
    for column, (domain, rows) in enumerate(looks.items()):
        axes[0][column].set_title(domain)
        for line, (name, title) in enumerate(SHOWN.items()):
            axis = axes[line][column]
            values = [row[name] for row in rows]
            axis.plot([row["step"] for row in rows], values, linewidth=0.8)
            axis.set_ylim(0, 1.2 * sorted(values)[int(0.99 * len(values))])
            if column == 0:
                axis.set_ylabel(title)
        axes[-1][column].set_xlabel("step")
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--domains", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--redraw", action="store_true", help="from the committed looks")
    arguments = parser.parse_args()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    file = OUTPUT / "summary.json"
    record: dict[str, Any] = {"command": "python benchmarks/soak.py", "domains": {}}
    if file.exists():
        record = json.loads(file.read_text(encoding="utf-8"))
    # Before anything is written, which makes a clean tree another one.
    environment = environment_record()
    domains = () if arguments.redraw else arguments.domains
    with ThreadPoolExecutor(len(arguments.domains)) as pool:
        soaked = list(pool.map(lambda domain: soak(domain, arguments.minutes), domains))
    for domain, rows in zip(domains, soaked, strict=True):
        with (OUTPUT / f"{domain}.csv").open("w", newline="", encoding="utf-8") as out:
            writer = csv.DictWriter(out, ["seconds", "step", *SHOWN])
            writer.writeheader()
            writer.writerows(rows)
        record["domains"][domain] = summarise(rows) | {"environment": environment}
        file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    looks: dict[str, list[Row]] = {}
    for domain in (name for name in RUNS if (OUTPUT / f"{name}.csv").exists()):
        with (OUTPUT / f"{domain}.csv").open(encoding="utf-8") as text:
            looks[domain] = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(text)]
        record["domains"][domain] |= summarise(looks[domain])
    file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    draw(looks, OUTPUT / "soak.png")
    (OUTPUT / "table.md").write_text(table(record["domains"]), encoding="utf-8")
    print(table(record["domains"]))


if __name__ == "__main__":
    main()
