"""Damage to files of weights, and the commands that open a model."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.faults.inputs.cases import Case, Spoil, both, trained, write

KIND = "model"
ABSURD: tuple[Any, ...] = (0, -1, "text", 10**9, 1.5, [1], True)
NAMES = ["./model", "'model'", " model", "model/", "model.pretrained", "chat template"]
"""Names of the model, of which an error must have one."""
TAKEN = "the library takes the number, and the weights fit"


def opened(domain: str, what: str, names: list[str], spoil: Spoil, valid: str,
              asked: bool = True) -> Iterator[Case]:  # fmt: skip
    """A model that is trained; and where ``asked`` looked at and asked, too."""
    yield Case(KIND, domain, f"train, {what}", trained(), names, spoil, valid)
    if asked:
        yield Case(KIND, domain, f"doctor --try, {what}", ["doctor", "recipe.yaml", "--try"],
                   names, spoil, valid)  # fmt: skip
        yield Case(
            KIND, domain, f"evaluate, {what}",
            ["evaluate", "./model", "--recipe", "recipe.yaml", "--output-dir", "new"],
            names, spoil, valid,
        )  # fmt: skip


def weights(name: str, change: Any) -> Spoil:
    """Change the tensors in a file of safetensors: ``change`` takes and returns them by name."""

    def act() -> None:
        from safetensors.torch import load_file, save_file

        save_file(change(load_file(name)), name, metadata={"format": "pt"})

    return act


def cut(name: str, keep: float) -> Spoil:
    def act() -> None:
        content = Path(name).read_bytes()
        Path(name).write_bytes(content[: int(len(content) * keep)])

    return act


def _not_numbers(tensors: Any) -> Any:
    return {name: tensor * float("nan") for name, tensor in tensors.items()}


def _one_not_a_number(tensors: Any) -> Any:
    last = max(name for name in tensors if not name.startswith("visual"))  # which nothing reads
    return {**tensors, last: tensors[last] * float("inf")}


def _wider(tensors: Any) -> Any:
    import torch

    return {name: torch.cat([t, t]) if t.ndim else t for name, t in tensors.items()}


def _half(tensors: Any) -> Any:
    return dict(list(sorted(tensors.items()))[::2])


def _whole_numbers(tensors: Any) -> Any:
    import torch

    return {name: tensor.to(torch.int64) for name, tensor in tensors.items()}


def _renamed(tensors: Any) -> Any:
    return {f"x.{name}": tensor for name, tensor in tensors.items()}


def weight_files(name: str) -> dict[str, Spoil]:
    """Kind of damage -> what does it to a file of weights."""
    return {
        "no weights": lambda: Path(name).unlink(),
        "weights of 0 bytes": write(name, b""),
        "weights of 4 bytes": write(name, b"\xff\xff\xff\xff"),
        "weights of a huge header": write(name, b"\xff" * 7 + b"\x7f" + b"{}"),
        "weights that are text": write(name, "hello " * 100),
        "weights without tensors": write(name, b"\x02\0\0\0\0\0\0\0{}"),
        "weights cut in the header": cut(name, 0.02),
        "weights cut": cut(name, 0.5),
        "weights cut late": cut(name, 0.99),
        "weights not numbers": weights(name, _not_numbers),
        "a weight infinite": weights(name, _one_not_a_number),
        "weights of another shape": weights(name, _wider),
        "half of the weights": weights(name, _half),
        "weights of other names": weights(name, _renamed),
        "whole numbers as weights": weights(name, _whole_numbers),
        "a folder as weights": both(lambda: Path(name).unlink(), lambda: Path(name).mkdir()),
    }
