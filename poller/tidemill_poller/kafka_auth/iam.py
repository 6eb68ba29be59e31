"""Tokens for MSK's OAUTHBEARER, signed by AWS's own signer with the credentials that the poller has.

Those are boto's: profile, environment, an assumed role, an instance's; those that say when they end are
renewed before, and each connection signs anew. So a session that the broker ends at its expiry is followed by
the next one.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

import boto3
from aws_msk_iam_sasl_signer.MSKAuthTokenProvider import generate_auth_token_from_credentials_provider
from botocore.credentials import CredentialProvider
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from tidemill_poller.aws import describe
from tidemill_poller.errors import LoginFailed
from tidemill_poller.kafka_auth.options import Sign

_MSK_HOST: Final = re.compile(r"\.kafka(?:-serverless)?\.([a-z0-9-]+)\.amazonaws\.")


def region_in(bootstrap_servers: str) -> str | None:
    """Return the region in names of MSK's brokers, `b-1.c.x.c2.kafka.REGION.amazonaws.com`, or None."""
    found = _MSK_HOST.search(bootstrap_servers)
    return found.group(1) if found else None


def token_signer(session: boto3.Session, region: str) -> Sign:
    """Make what gives a fresh token for every login; it raises LoginFailed."""
    credentials = _SessionCredentials(session)

    def signed() -> str:
        try:
            token, _ = generate_auth_token_from_credentials_provider(region, credentials)
        except (BotoCoreError, ClientError, ValueError) as error:
            raise LoginFailed(
                f"No token can be signed with the poller's AWS credentials: {describe(error)}"
            ) from error
        return str(token)

    async def sign() -> str:
        return await asyncio.to_thread(signed)

    return sign


class _SessionCredentials(CredentialProvider):  # type: ignore[misc]  # botocore ships no type information
    """The session's credentials as they are now; the signer would look for others in a session of its own."""

    def __init__(self, session: boto3.Session) -> None:
        super().__init__()
        self._session = session

    def load(self) -> Any:
        credentials = self._session.get_credentials()
        if credentials is None:
            raise NoCredentialsError
        return credentials.get_frozen_credentials()
