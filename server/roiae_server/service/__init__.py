"""A coordinator's running service: its processes, the worker that drives a run, and what it shows meanwhile."""
