"""Estimates of the memory that training takes, before anything is loaded."""
