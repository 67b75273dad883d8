"""The things that a run leaves on disk, and those that make it repeatable."""

from adrpo.runs.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint
from adrpo.runs.directory import RunDirectory
from adrpo.runs.environment import available_cores, environment_record
from adrpo.runs.seeding import generator, restore_rng_state, rng_state

__all__ = [
    "RunDirectory",
    "available_cores",
    "environment_record",
    "generator",
    "latest_checkpoint",
    "load_checkpoint",
    "restore_rng_state",
    "rng_state",
    "save_checkpoint",
]
