"""The benchmarks by name, and how the files of each are written."""

from dataclasses import dataclass

from adrpo.errors import AdrpoError


@dataclass(frozen=True)
class Benchmark:
    """A published set of questions, as its authors' files have it."""

    name: str
    title: str
    files: tuple[str, ...]
    """Names of the file with the questions; a folder must hold one of them."""
    output: str
    """Key of a row of predictions that the authors' scorer reads."""
    audio: str
    """Key of a question's sound, a path from the file's folder."""
    stratum: str
    """Key of the task, within which intervals look at the spread."""
    groupings: tuple[str, ...]
    """Keys by whose values accuracies are told, ``stratum`` first."""


BENCHMARKS = {
    "mmau": Benchmark(
        name="mmau",
        # arXiv 2410.19168; Sakshi113/MMAU at commit 110127f. Their README names the key of
        # predictions model_prediction, their scorer reads model_output.
        title="MMAU",
        files=("mmau-test-mini.json",),
        output="model_output",
        audio="audio_id",
        stratum="task",
        groupings=("task", "difficulty", "category", "sub-category"),
    ),
    "mmar": Benchmark(
        name="mmar",
        # ddlBoJack/MMAR at commit 3bce090.
        title="MMAR",
        files=("MMAR-meta.jsonl", "MMAR-meta.json"),
        output="answer_prediction",
        audio="audio_path",
        stratum="modality",
        groupings=("modality", "category", "sub-category"),
    ),
}
"""Name on the command line -> the benchmark."""


def benchmark_named(name: str) -> Benchmark:
    """The benchmark of that name; AdrpoError where there is none."""
    if name not in BENCHMARKS:
        raise AdrpoError(
            f"--benchmark: expected one of {', '.join(BENCHMARKS)}; received {name!r:.60}"
        )
    return BENCHMARKS[name]
