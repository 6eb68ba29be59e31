"""Knows how a process of each Lambda runtime is started: one table, one folder a runtime."""
