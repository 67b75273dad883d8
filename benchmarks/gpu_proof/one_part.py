"""``python -m gpu_proof.one_part NAME FILE SECONDS [--rehearse]``: one part, in its own process."""

import importlib
import sys
from pathlib import Path

import torch

from gpu_proof.device import the_device
from gpu_proof.parts import part_named
from gpu_proof.record import Record

FAILED, NO_DEVICE = 1, 2
THREADS = 4
"""The threads of a rehearsal."""


def main(arguments: list[str]) -> int:
    name, file, seconds, *more = arguments
    rehearse = "--rehearse" in more
    part = part_named(name)
    record = Record(Path(file), float(seconds))
    if not (rehearse or torch.cuda.is_available()):
        record.skip("torch finds no CUDA device")
        return NO_DEVICE
    if rehearse:
        torch.set_num_threads(min(THREADS, torch.get_num_threads()))
    with record.stage("part"):
        module = importlib.import_module(f"gpu_proof.{part.module}")
        record.lines = module.lines
        module.run(record, the_device(rehearse=rehearse), rehearse=rehearse, **part.options)
    return FAILED if record.found["errors"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
