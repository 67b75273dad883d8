"""Runs of every domain killed, damaged and cut short of disk; malformed inputs of every command.

Each trial is a real process on the tiniest runs of the test suite. What comes of it is compared to
a run that nothing happened to: a difference that nobody was told of fails the command.
"""
