"""Counts of how far a change reaches: files that a new part touches, branches on the domain."""
