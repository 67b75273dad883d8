"""The embedded reward CLIP as it was at four training budgets, out of the repository's history.

``python benchmarks/reward_budgets/weights.py [--output runs/reward_budgets/weights]``

Each folder ``steps-N`` holds the weights after N steps, with the card of that time: data, steps and
rank correlation with the gold scorer. The recipes beside this file train under them.
"""

import argparse
import io
import subprocess
import tarfile
from pathlib import Path

COMMITS = {"2800": "3f40aca", "5200": "8e5b977", "7600": "295aa41", "10000": "56c5d3c"}
"""Training steps -> the commit that brought the weights in, or a later one that still has them."""

REPOSITORY = Path(__file__).parents[2]
WEIGHTS = "src/adrpo/embedded/weights/reward_clip"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("runs/reward_budgets/weights"))
    output = parser.parse_args().output
    for steps, commit in COMMITS.items():
        archive = subprocess.run(
            ["git", "archive", f"{commit}:{WEIGHTS}"],
            cwd=REPOSITORY, capture_output=True, check=True,
        ).stdout  # fmt: skip
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(output / f"steps-{steps}", filter="data")
        print(f"{output / f'steps-{steps}'}: commit {commit}")


if __name__ == "__main__":
    main()
