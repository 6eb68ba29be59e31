"""Serves HTTP: Invoke on its fast path, Lambda's control API, and the routes of our own."""
