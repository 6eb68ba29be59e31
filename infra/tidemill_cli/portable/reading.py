"""Owns where a mapping is read from: AWS, another endpoint, or the JSON that the AWS CLI prints.

Never uses AWS_ENDPOINT_URL for AWS: that is the local endpoint, where the mapping goes.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidemill_cli.errors import UserError
from tidemill_cli.output import without_metadata

_LIST = "EventSourceMappings"


def from_aws(
    uuid: str, *, profile: str | None, region: str | None, endpoint_url: str | None
) -> tuple[Mapping[str, Any], Mapping[str, str] | None]:
    """Return a mapping as AWS replies it, and its tags; None for tags that may not be read."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError

    session = boto3.Session(profile_name=profile, region_name=region)
    config = Config(ignore_configured_endpoint_urls=True)
    client = session.client("lambda", endpoint_url=endpoint_url, config=config)
    found = without_metadata(client.get_event_source_mapping(UUID=uuid))
    arn = found.get("EventSourceMappingArn")
    try:
        return found, client.list_tags(Resource=arn)["Tags"] if arn else {}
    except ClientError:
        return found, None


def from_file(path: Path) -> list[Any]:
    """Return the mappings of a file or, for `-`, of standard input: one, or those of a list."""
    named = "Standard input" if str(path) == "-" else str(path)
    try:
        document = json.loads(sys.stdin.read() if str(path) == "-" else path.read_text())
    except ValueError as error:
        raise UserError(
            f"{named} is not JSON: {error}.",
            hint="Make it with `aws lambda get-event-source-mapping --uuid UUID --output json`.",
        ) from None
    if isinstance(document, dict) and _LIST in document:
        document = document[_LIST]
    found = document if isinstance(document, list) else [document]
    if not found:
        raise UserError(f"{named} holds no mapping.", hint="`aws lambda list-event-source-mappings`.")
    return found
