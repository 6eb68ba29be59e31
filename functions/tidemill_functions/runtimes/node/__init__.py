"""Runs Node.js functions under a small Runtime API client of ours."""
