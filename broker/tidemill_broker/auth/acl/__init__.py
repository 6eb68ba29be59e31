"""Kafka's ACLs: their rules, the file that keeps them, and the authorizer that decides by them."""
