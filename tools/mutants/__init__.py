"""Faults of one line, planted one at a time, and the tests that must fail for each."""
