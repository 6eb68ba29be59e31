"""What is wrong with a policy document: PolicyError, a ValueError, is the only one."""

from tidemill_broker.errors import BrokerError


class PolicyError(BrokerError, ValueError):
    """A policy that cannot be used: one sentence that names the statement and the fix."""
