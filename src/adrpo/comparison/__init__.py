"""Several methods, several seeds, one set of prompts and noises: trained, measured, drawn."""

from adrpo.comparison.collect import collect
from adrpo.comparison.page import write_results
from adrpo.comparison.plan import Plan, check_folder, record
from adrpo.comparison.schedule import jobs_of, run_jobs
from adrpo.comparison.workers import LocalWorkers

__all__ = [
    "LocalWorkers",
    "Plan",
    "check_folder",
    "collect",
    "jobs_of",
    "record",
    "run_jobs",
    "write_results",
]
