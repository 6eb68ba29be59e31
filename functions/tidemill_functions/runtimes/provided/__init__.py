"""Runs any program that speaks the Runtime API: Lambda's OS-only runtimes."""
