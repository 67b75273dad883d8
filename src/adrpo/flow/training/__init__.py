"""Trainers: the loop, and what a step of each method is."""
