"""A process that has imported what most tests import, and runs each call of pytest in a fork.

``python -m tools.mutants.worker`` reads one request a line, ``{"tests": [...], "limit": seconds}``,
and answers each with one line, ``{"code": ..., "seconds": ..., "cpu_seconds": ..., "output":
...}``. Nothing of the package under test is imported before the fork. ``code`` is None where the
tests took longer.
"""

import contextlib
import gc
import importlib
import json
import os
import signal
import sys
import tempfile
import time
from typing import Any

PRELOADED = (
    "torch", "torch._dynamo", "scipy.stats", "matplotlib.figure", "hypothesis", "beartype",
    "transformers", "diffusers.loaders.lora_pipeline", "diffusers.models.transformers",
    "diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3", "datasets",
    "transformers.models.qwen3.modeling_qwen3", "transformers.models.clip.modeling_clip", "peft",
    "trl.trainer.grpo_trainer", "transformers.models.qwen2_5_omni.modeling_qwen2_5_omni",
)  # fmt: skip
"""Modules of others that take seconds to import; those that are not there are left out."""


def run(tests: list[str], limit: float) -> dict[str, Any]:
    """Run ``tests`` in a fork, up to the first that fails."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            _run_pytest(tests, output.fileno())
        code, cpu_seconds = _wait(child, started + limit)
        output.seek(0)
        text = output.read().decode(errors="replace")
    return {
        "code": code,
        "seconds": time.monotonic() - started,
        "cpu_seconds": cpu_seconds,
        "output": text[-4000:],
    }


def _run_pytest(tests: list[str], output: int) -> None:
    """Never returns: what would run at exit is the parent's."""
    code = 3
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        import pytest

        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(child: int, until: float) -> tuple[int | None, float]:
    """The exit code of ``child``, None where it is ended ``until`` then, and its CPU seconds with
    those of the processes that it has waited for."""
    code = None
    while time.monotonic() < until:
        found, status, usage = os.wait4(child, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
            break
        time.sleep(0.05)
    # What a test has started and left behind, too.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if code is None:
        _, _, usage = os.wait4(child, 0)
    return code, usage.ru_utime + usage.ru_stime


def main() -> None:
    for name in sys.argv[1:]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
