"""Runs Java functions under AWS's own runtime client."""
