"""Builders of the parts that the package ships; no part of the wheel."""
