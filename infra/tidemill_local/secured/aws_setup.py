"""Owns what `up --auth` puts into an AWS: secrets that mappings name, and in another emulator the IAM user.

Speaks AWS's API only, so that any emulator does. The embedded AWS remembers nothing, so this is done at each
of its starts; nothing that is there already is overwritten. Blocks: call it in a thread.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from tidemill_local.secured.kept_secrets import POLICY_NAME, USER_NAME, KeptSecrets, user_policy

# MSK takes SCRAM users from secrets of this prefix only (developer guide, "Sign-in credentials").
SCRAM_SECRET: Final = "AmazonMSK_tidemill"  # noqa: S105 - its name
CERTIFICATE_SECRET: Final = "tidemill_client_certificate"  # noqa: S105 - its name
CA_SECRET: Final = "tidemill_ca"  # noqa: S105 - its name
_TIMEOUT_S = 10


def aws_client(service: str, endpoint_url: str, region: str, environ: Mapping[str, str]) -> Any:
    """A boto3 client with the credentials that the programs of `up` have."""
    import boto3  # noqa: PLC0415 - slow to import, and only --auth needs it
    from botocore.config import Config  # noqa: PLC0415 - as above

    return boto3.client(
        service,
        endpoint_url=endpoint_url,
        region_name=region,
        aws_access_key_id=environ.get("AWS_ACCESS_KEY_ID"),
        aws_secret_access_key=environ.get("AWS_SECRET_ACCESS_KEY"),
        aws_session_token=environ.get("AWS_SESSION_TOKEN"),
        config=Config(
            connect_timeout=_TIMEOUT_S,
            read_timeout=_TIMEOUT_S,
            retries={"total_max_attempts": 3, "mode": "standard"},
            # An emulator is on this machine: no proxy is used.
            proxies={},
        ),
    )


def ensure_secret(
    client: Any,
    name: str,
    content: Mapping[str, str],
    *,
    stays: Callable[[Mapping[str, str]], bool] = lambda _found: True,
) -> Mapping[str, str]:
    """Create a secret in Secrets Manager unless one is there that ``stays``; what it holds then."""
    text = json.dumps(content)
    try:
        client.create_secret(Name=name, SecretString=text)
    except client.exceptions.ResourceExistsException:
        found: Mapping[str, str] = json.loads(client.get_secret_value(SecretId=name)["SecretString"])
        if stays(found):
            return found
        client.put_secret_value(SecretId=name, SecretString=text)
    return content


def ensure_user(client: Any, kept: KeptSecrets, region: str, account_id: str) -> KeptSecrets:
    """Create the IAM user with its policy and a key, unless they are there; the secrets with that key."""
    try:
        client.create_user(UserName=USER_NAME)
    except client.exceptions.EntityAlreadyExistsException:
        keys = client.list_access_keys(UserName=USER_NAME)["AccessKeyMetadata"]
        if kept.access_key_id in {key["AccessKeyId"] for key in keys}:
            return kept
    policy = json.dumps(user_policy(region, account_id))
    client.put_user_policy(UserName=USER_NAME, PolicyName=POLICY_NAME, PolicyDocument=policy)
    key = client.create_access_key(UserName=USER_NAME)["AccessKey"]
    return replace(kept, access_key_id=key["AccessKeyId"], secret_access_key=key["SecretAccessKey"])


def secret_arn(name: str, region: str, account_id: str) -> str:
    """The ARN without the six characters that each creation draws anew: AWS finds the secret by it too."""
    return f"arn:aws:secretsmanager:{region}:{account_id}:secret:{name}"
