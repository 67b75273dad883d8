"""Everything that only a GPU can show, in ten minutes on one card of 24 GB or more.

``make gpu-proof`` (``PY=python3`` for an interpreter that has the dependencies), which runs
``python -m gpu_proof [--minutes 10] [--only PART ...] [--output benchmarks/results/gpu_proof]``
with src and benchmarks on Python's path. It installs nothing and reaches no network: models have
their published sizes and random weights.

Each part is a process with its own time limit (``parts.py``), most valuable first. What a part has
found is written while it runs, so that nothing is lost where it hangs, fails or is stopped; the
rest goes on. ``--rehearse`` sends all of it through the same code on a CPU, at sizes of seconds.
"""
