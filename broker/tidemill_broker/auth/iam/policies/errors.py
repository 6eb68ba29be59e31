"""What is wrong with a policy document: PolicyError, a ValueError, is the only one."""


class PolicyError(ValueError):
    """A policy that cannot be used: one sentence that names the statement and what mends it."""
