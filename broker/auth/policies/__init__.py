"""IAM policies: read by `parse_policy`, judged by `evaluate`; pure.

Knows IAM's documented logic and the kafka-cluster actions, and neither credentials nor connections.
`broker.auth.iam_authorizer` asks, `broker.auth.identities` reads the documents.
"""

from broker.auth.policies.errors import PolicyError
from broker.auth.policies.evaluation import Grants, Request, evaluate
from broker.auth.policies.policy import Policy, parse_policy

__all__ = ["Grants", "Policy", "PolicyError", "Request", "evaluate", "parse_policy"]
