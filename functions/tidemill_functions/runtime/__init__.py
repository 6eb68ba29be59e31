"""Runs handlers: the pool, its environments and their processes, the Runtime API, and the logs."""
