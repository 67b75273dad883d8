"""Paths from noise to data: the convention of time, draws, solvers, the SDE."""
