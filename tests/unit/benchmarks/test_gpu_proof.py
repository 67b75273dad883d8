"""benchmarks/gpu_proof: its rehearsal, and what it tells of parts that fail or hang."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch.autograd import DeviceType

from tools.pretend_cuda import PretendCuda

ROOT = Path(__file__).parents[3]

PART = """
import os, subprocess, sys, time

def lines(stages):
    return [f"- {name}" for name in stages]

def run(record, device, *, rehearse, do):
    record.put("first", number=1)
    record.check("one is one", True, "1")
    if do == "fail":
        raise ValueError("no such kernel")
    if do == "memory":
        with record.stage("second"):
            raise type("OutOfMemoryError", (RuntimeError,), {})("tried to allocate 2 GiB")
        record.put("third", number=3)
    if do == "claim":
        record.check("two is three", False, "2")
    if do == "die":
        os._exit(7)
    if do == "hang":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        record.put("child", pid=child.pid)
        time.sleep(600)
    if do == "skip":
        record.skip("nothing here")
"""


@pytest.fixture
def proof(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")

    def module(name: str) -> ModuleType:
        return importlib.import_module(f"gpu_proof.{name}")

    return module


def run_parts(
    proof: Callable[[str], ModuleType],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *todo: str,
    seconds: float = 6000,
) -> Any:
    """The proof of parts that only ``do`` something, each by the true runner and child."""
    (folder / "sources" / "gpu_proof_parts").mkdir(parents=True)
    (folder / "sources" / "sitecustomize.py").write_text(
        "import sys, types\n"
        "import gpu_proof.parts as parts\n"
        f"source = {PART!r}\n"
        "module = types.ModuleType('gpu_proof.doing')\n"
        "exec(source, vars(module))\n"
        "sys.modules['gpu_proof.doing'] = module\n"
        "parts.part_named = lambda name: parts.Part(\n"
        "    name=name, title=name, module='doing', limit=1, least=1, options={'do': name}\n"
        ")\n"
    )
    part = proof("parts").Part
    parts = [
        part(name=do, title=f"It will {do}", module="doing", limit=600, least=1,
             options={"do": do}) for do in todo
    ]  # fmt: skip
    monkeypatch.setenv("PYTHONPATH", str(folder / "sources"))
    made = proof("runner").Proof(folder / "out", seconds, rehearse=True, command="proof")
    made.run(parts, tell=lambda line: None)
    return made


@pytest.mark.slow
def test_what_becomes_of_a_part_is_told(
    proof: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = run_parts(proof, tmp_path, monkeypatch, "well", "fail", "memory", "claim", "die", "skip")
    told = {row["name"]: (row["status"], row["reason"]) for row in made.rows}
    assert told == {
        "well": ("done", ""),
        "fail": ("failed", "part: ValueError: no such kernel"),
        "memory": (
            "failed",
            "out of the card's memory: second: OutOfMemoryError: tried to allocate 2 GiB",
        ),
        "claim": ("done", ""),
        "die": ("failed", "exit code 7: it said nothing"),
        "skip": ("skipped", "nothing here"),
    }
    # What was found before and after an error is kept.
    stages = {row["name"]: list(row["found"]["stages"]) for row in made.rows}
    assert stages["fail"][0] == "first" and "third" in stages["memory"]
    assert json.loads((tmp_path / "out/summary.json").read_text()) == made.summary
    page = (tmp_path / "out/page.md").read_text()
    for words in (
        "| It will fail | failed: part: ValueError: no such kernel |",
        "| It will claim | done | ",
        "Two is three: **does not hold** (2).",
        "**Failed** at second: `OutOfMemoryError: tried to allocate 2 GiB`",
        "Skipped: nothing here.",
        "- first",
    ):
        assert words in page, words
    failed = proof("runner").failed
    verdicts = {row["name"]: failed([row]) for row in made.rows}
    assert verdicts == dict.fromkeys(("fail", "memory", "claim", "die"), True) | {
        "well": False,
        "skip": False,
    }


def test_a_part_that_hangs_is_ended_with_what_it_started(
    proof: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    runner = proof("runner")
    with_limit = runner.waited

    def waited(process: "subprocess.Popen[bytes]", limit: float) -> int | None:
        file = tmp_path / "out/logs/hang.json"
        while not (file.exists() and "child" in file.read_text()):
            if process.poll() is not None:  # another part
                return process.returncode
            time.sleep(0.1)
        return with_limit(process, 0.1)

    monkeypatch.setattr(runner, "waited", waited)
    made = run_parts(proof, tmp_path, monkeypatch, "hang", "well")
    hung, well = made.rows
    assert hung["status"] == "out of time" and well["status"] == "done"
    assert hung["found"]["stages"]["first"] == {"number": 1}
    child = hung["found"]["stages"]["child"]["pid"]
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"
    assert proof("runner").failed(made.rows)


def test_what_does_not_fit_is_left_out(
    proof: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = run_parts(proof, tmp_path, monkeypatch, "well", seconds=5)
    (row,) = made.rows
    assert (row["status"], row["reason"]) == ("left out", "it wants 1 s, and 0 s were left")
    assert not proof("runner").failed(made.rows)
    assert "left out: it wants 1 s" in (tmp_path / "out/page.md").read_text()


def environment() -> dict[str, str]:
    folders = os.pathsep.join(str(ROOT / name) for name in ("src", "benchmarks", ""))
    return os.environ | {"PYTHONPATH": folders, "CUDA_VISIBLE_DEVICES": ""}


def test_without_a_gpu_it_says_so(tmp_path: Path):
    command = [sys.executable, "-m", "gpu_proof", "--output", str(tmp_path)]
    done = subprocess.run(
        command, env=environment(), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "--rehearse" in done.stderr


def test_stopped_as_by_a_scheduler_it_keeps_what_it_has(tmp_path: Path):
    command = [sys.executable, "-m", "gpu_proof", "--rehearse", "--output", str(tmp_path)]
    process = subprocess.Popen(command, env=environment(), cwd=ROOT)
    while not (tmp_path / "logs/machine.json").exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 1
    summary = json.loads((tmp_path / "summary.json").read_text())
    first, *others = summary["parts"]
    assert first["status"] == "stopped" and others
    assert {row["status"] for row in others} == {"left out"}


@pytest.mark.slow
def test_the_rehearsal_goes_through_every_part(tmp_path: Path):
    command = [sys.executable, "-m", "gpu_proof", "--rehearse", "--output", str(tmp_path)]
    done = subprocess.run([*command, "--minutes", "600"], env=environment(), cwd=ROOT, check=False)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert done.returncode == 0, (tmp_path / "page.md").read_text()
    assert summary["rehearsed"]
    rows = {row["name"]: row for row in summary["parts"]}
    assert {name: row["status"] for name, row in rows.items()} == dict.fromkeys(rows, "done") | {
        "vllm": "skipped"
    }
    stages = {name: row["found"]["stages"] for name, row in rows.items()}
    assert stages["machine"]["environment"]["packages"]["torch"] == torch.__version__
    assert stages["tests"]["tests"]["cases"]
    check_speed(stages["sd3"]["speed"], stages["sd3"]["work"])
    check_speed(stages["sd3-compiled"]["speed"], stages["sd3-compiled"]["work"])
    waits = stages["sd3"]["waits"]
    assert waits["total"] == sum(row["times"] for row in waits["named"]) and not waits["beyond"]
    assert stages["sd3"]["profile"]["host"]
    assert stages["flux"]["steps"]["done"] == 2
    assert set(stages["language"]["speed"]["medians"]) == {"grpo", "adrpo"}
    # One of a thousand tokens ends a completion before its eighth.
    assert 7 < stages["language"]["speed"]["logged_adrpo"]["completions/mean_length"] <= 8
    differences = stages["demo"]["compared"]["differences"]
    # Sums of other lengths differ, and hardly.
    assert differences["latents"] > 0 and len(stages["demo"]["cpu"]["rows"]) == 3
    page = (tmp_path / "page.md").read_text()
    assert "A rehearsal on a CPU" in page and "does not hold" not in page
    for words in ("images/s", "a step over its bare model calls", "ADRPO's step over stock GRPO's",
                  "peak memory", "Skipped: vllm can't be imported", "| latents |"):  # fmt: skip
        assert words in page, words


def check_speed(speed: dict[str, Any], work: dict[str, Any]) -> None:
    assert speed["training"]["images_per_second"] > 0 and speed["peak_memory_bytes"] > 0
    assert speed["loop_over_bare_calls"]["pairs"]
    seconds, flops = speed["update"]["seconds"], speed["update"]["model_flops"]
    used = flops / seconds / work["device_flops_per_second"]
    assert speed["update"]["utilisation"] == pytest.approx(used)


def test_partial_results_have_lines(proof: Callable[[str], ModuleType]):
    """A part may be ended after any stage."""
    pytest.importorskip("trl")
    for part in proof("parts").PARTS:
        module = proof(part.module)
        assert isinstance(module.lines({}), list)
    speed = {"medians": {"grpo": [2.0], "adrpo": []}, "peaks": {"grpo": 1},
             "logged_grpo": {"completions/mean_length": 9.0}}  # fmt: skip
    (line,) = proof("language").lines({"speed": speed})
    assert line.startswith("- grpo: 2.00 s")


def test_the_sizes_are_those_of_qwen3(proof: Callable[[str], ModuleType]):
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        config = transformers.Qwen3Config(**proof("language").QWEN3)
        model = transformers.Qwen3ForCausalLM(config)
    # As its model card has them: 0.6 billion, 0.44 of them no embeddings.
    count = sum(parameter.numel() for parameter in model.parameters())
    embeddings = model.get_input_embeddings().weight.numel()
    assert round(count / 1e9, 1) == 0.6 and round((count - embeddings) / 1e9, 2) == 0.44


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")
def test_vllm_s_settings_are_trl_s(proof: Callable[[str], ModuleType], tmp_path: Path):
    from adrpo.llm import ADRPOConfig

    language = proof("language")
    settings = language.SETTINGS | language.VLLM
    config = ADRPOConfig(str(tmp_path), use_cpu=True, bf16=False, **settings)
    for name, value in settings.items():
        assert getattr(config, name) == value


def test_named_waits_are_places_in_the_sources(proof: Callable[[str], ModuleType]):
    for file, function in proof("waits").NAMED:
        source = (ROOT / "src/adrpo" / file).read_text(encoding="utf-8")
        assert f"def {function}(" in source, (file, function)


def test_a_wait_that_is_not_named_is_told(proof: Callable[[str], ModuleType]):
    with PretendCuda() as gpu:
        torch.ones(2, device="cuda").tolist()
    found = proof("waits").summary(gpu.waits)
    (row,) = found["beyond"]
    assert found["total"] == 1 and row["function"] == "test_a_wait_that_is_not_named_is_told"
    assert "**not named**" in proof("waits").lines(found)[2]


def test_a_warning_of_torch_s_is_a_wait(proof: Callable[[str], ModuleType]):
    import warnings

    device, found = proof("device"), []
    with pytest.warns(UserWarning, match="another"), device.warned(found):
        warnings.warn(f"{device.WAITED} (Triggered internally)", stacklevel=1)
        warnings.warn(f"{device.WAITED} (Triggered internally)", stacklevel=1)
        warnings.warn("another", stacklevel=1)
    assert len(found) == 2
    places = [proof("waits").place_of(wait) for wait in found]
    assert {function for _, function, _ in places} == {"test_a_warning_of_torch_s_is_a_wait"}


def test_a_profile_is_a_table_of_the_largest(proof: Callable[[str], ModuleType]):
    def event(key: str, on_gpu: float, on_host: float, kind: DeviceType, **more: bool) -> Any:
        return SimpleNamespace(
            key=key, count=2, self_device_time_total=on_gpu, self_cpu_time_total=on_host,
            device_type=kind, is_user_annotation=more.get("annotation", False),
        )  # fmt: skip

    found = proof("profiled").tables(
        [
            event("gemm", 3e6, 0, DeviceType.CUDA),
            event("softmax", 1e6, 0, DeviceType.CUDA),
            event("step", 4e6, 0, DeviceType.CUDA, annotation=True),
            event("aten::mm", 3e6, 2e6, DeviceType.CPU),
            event("cudaStreamSynchronize", 0, 1e6, DeviceType.CPU),
        ]
    )
    assert [(row["name"], row["seconds"], row["share"]) for row in found["kernels"]] == [
        ("gemm", 3, 0.75),
        ("softmax", 1, 0.25),
    ]
    assert found["kernel_seconds"] == 4 and found["host_seconds"] == 3
    assert found["waiting"] == {"cudaStreamSynchronize": 2}
    text = "\n".join(proof("profiled").lines(found))
    assert "| `gemm` | 2 | 3.000 | 75.0 % |" in text and "cudaStreamSynchronize 2" in text
