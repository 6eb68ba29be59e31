"""Logins by password: SCRAM-SHA-256, SCRAM-SHA-512 and PLAIN, and the users that all three share."""
