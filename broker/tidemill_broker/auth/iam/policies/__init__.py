"""IAM policies: read by `parse_policy`, evaluated by `evaluate`; pure.

Knows IAM's documented logic and the kafka-cluster actions, and neither credentials nor connections.
`tidemill_broker.auth.iam.authorizer` asks, `tidemill_broker.auth.iam.identities` reads the documents.
"""

from tidemill_broker.auth.iam.policies.errors import PolicyError
from tidemill_broker.auth.iam.policies.evaluation import Grants, Request, evaluate
from tidemill_broker.auth.iam.policies.policy import Policy, parse_policy

__all__ = ["Grants", "Policy", "PolicyError", "Request", "evaluate", "parse_policy"]
