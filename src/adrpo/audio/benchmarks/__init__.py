"""Benchmarks of multiple-choice questions on sounds: MMAU and MMAR, scored from predictions.

``benchmarks`` says how each one's file is written, ``questions`` and ``predictions`` read files,
``scorers`` judge one answer, ``measuring`` makes rows, groups and intervals of the verdicts,
``pairing`` compares two results, ``results`` writes the folder. None of them hears a sound or loads
a model. Of the authors nothing is bundled: neither questions nor audio.
"""
