"""Reads secrets from Secrets Manager, at create and before each connect. Blocks: call it in a thread."""

from __future__ import annotations

from botocore.exceptions import BotoCoreError, ClientError

from tidemill_poller.aws import AwsClients, describe, is_temporary, region_of
from tidemill_poller.errors import SecretDenied, SecretInvalid, SecretUnreadable
from tidemill_poller.kafka_auth.secrets import Secret


def read_secret(clients: AwsClients, secret_id: str) -> Secret:
    """Return the current version of a secret by its name or ARN, in the ARN's region.

    By GetSecretValue also when the version alone is of interest: it is the one right that AWS tells people to
    give (Lambda Developer Guide, kafka-cluster-auth).

    Raises SecretDenied if the secret does not exist or may not be read, SecretUnreadable if Secrets
    Manager cannot be reached, has no credentials or fails for now, and SecretInvalid if the secret is binary.
    """
    try:
        client = clients.get("secretsmanager", region_of(secret_id))
        reply = client.get_secret_value(SecretId=secret_id)
    except ClientError as error:
        kind = SecretUnreadable if is_temporary(error) else SecretDenied
        raise kind(secret_id, describe(error)) from error
    except (BotoCoreError, ValueError) as error:
        raise SecretUnreadable(secret_id, describe(error)) from error
    if "SecretString" not in reply:
        raise SecretInvalid(f"The secret {secret_id} is binary: store its JSON as the SecretString.")
    return Secret(id=secret_id, version=str(reply["VersionId"]), text=reply["SecretString"])
