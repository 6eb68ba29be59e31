"""Logins by AWS identity: AWS_MSK_IAM, OAUTHBEARER, the identities, and the authorizer of their policies."""
