"""Estimates of the memory that training an audio-language model takes, before it is loaded."""
