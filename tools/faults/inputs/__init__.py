"""Malformed inputs on the command line: words, recipes, data, models and folders of runs.

Each is given to the real command line in a process of its own, on a copy of the files of a tiny
run. What is right is one line that names what was wrong, exit code 2, and a folder that has what
it had before; or, of an input that is no mistake, a command that succeeds.
"""
