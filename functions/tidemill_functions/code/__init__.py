"""Keeps functions and their code on disk: the registry, zips, and code that runs in place."""
