"""Keeps the state of ministack over the end of its process: a journal, and what goes into it."""
