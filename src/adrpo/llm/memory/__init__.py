"""Estimates of the memory that training a language model takes, before its weights are loaded."""
