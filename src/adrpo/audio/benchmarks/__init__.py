"""Benchmarks of multiple-choice questions on sounds, MMAU and MMAR, and the scores of answers.

``benchmarks`` says how each one's file is written, ``questions`` and ``predictions`` read files,
``scorers`` judge one answer, ``measuring`` makes rows, groups and intervals of the verdicts,
``pairing`` compares two results, ``results`` writes the folder, ``endpoint`` gets predictions from
a server. None of them loads a model. Of the authors nothing is bundled, neither questions nor
sounds.
"""
