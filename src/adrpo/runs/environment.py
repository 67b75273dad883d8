"""The machine and packages of a run, so that its numbers can be traced."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import adrpo
from adrpo.runs.processes import launched_processes

PACKAGES = (
    "accelerate",
    "diffusers",
    "numpy",
    "peft",
    "pillow",
    "pydantic",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
)


def environment_record() -> dict[str, Any]:
    """Machine and software, as JSON values.

    ``git`` is the commit of adrpo's checkout and whether anything in it differs from that
    commit; null where adrpo runs from an installed package.
    """
    return {
        "adrpo": adrpo.__version__,
        "git": _git(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "processes": launched_processes(),
        "gpu": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
        "packages": {name: _version(name) for name in PACKAGES},
    }


def available_cores() -> int:
    """Number of cores that this process may use: those of its affinity mask, or, where the system
    has no such masks (macOS), all of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _git() -> dict[str, Any] | None:
    package = Path(adrpo.__file__).resolve().parent
    top = _run_git(package, "rev-parse", "--show-toplevel")
    # An environment that lies inside some other project's checkout is not adrpo's.
    if top is None or Path(top, "src", "adrpo").resolve() != package:
        return None
    commit = _run_git(package, "rev-parse", "--verify", "--quiet", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "dirty": bool(_run_git(Path(top), "status", "--porcelain"))}


def _run_git(folder: Path, *arguments: str) -> str | None:
    """The output of git in ``folder``; None where git is missing or refuses."""
    # Variables such as GIT_DIR, which a git hook sets, would point git elsewhere.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
    except FileNotFoundError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None
