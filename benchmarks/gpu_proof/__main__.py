"""``python -m gpu_proof``: all parts, or some; see the package."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from gpu_proof.parts import PARTS
from gpu_proof.runner import ROOT, Proof, failed

RESULTS = ROOT / "benchmarks" / "results" / "gpu_proof"
REHEARSED = ROOT / "runs" / "gpu-proof-rehearsal"
NO_DEVICE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where all is well; 1 where a part failed, was ended or a claim doesn't hold, and 2 without
    a GPU. What was left out for want of time fails nothing."""
    parser = argparse.ArgumentParser("gpu_proof", description="What only a GPU can show.")
    parser.add_argument("--minutes", type=float, default=10, help="of the whole")
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, in small")
    names = [part.name for part in PARTS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="PART")
    parser.add_argument("--output", type=Path, default=None, help="folder of the results")
    given = parser.parse_args(arguments)
    folder = given.output or (REHEARSED if given.rehearse else RESULTS)
    command = " ".join(["python -m gpu_proof", *(sys.argv[1:] if arguments is None else arguments)])
    # A scheduler that takes the machine back gets what was found so far, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    proof = Proof(folder.resolve(), 60 * given.minutes, rehearse=given.rehearse, command=command)
    if not (given.rehearse or _has_gpu()):
        print(
            "gpu_proof: expected a GPU that torch sees; it sees none: run it where there is one, "
            "or rehearse it on this machine with --rehearse",
            file=sys.stderr,
        )
        return NO_DEVICE
    # The machine always: results without it can't be quoted.
    proof.run([part for part in PARTS if part.name in ("machine", *given.only)])
    print(f"{folder / 'page.md'}")
    return 1 if failed(proof.rows) else 0


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    sys.exit(main())
