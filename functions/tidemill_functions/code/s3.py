"""Fetches a function's zip from S3, wherever boto3's configuration finds it. Called by api.control."""

from __future__ import annotations

from typing import Any, Final

from tidemill_functions.errors import InvalidFunction

# Lambda's quota for a zip, compressed, which S3 does not lift for what must be unpacked to 250 MB.
ZIP_BYTES_MAX: Final = 262_144_000


def download(bucket: str, key: str, version: str | None) -> bytes:
    """Return the object's bytes; blocks. Raises InvalidFunction in Lambda's words."""
    # boto3 costs half a second to import, and most functions never come from S3.
    import boto3  # noqa: PLC0415 - see above
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - see above

    where: dict[str, Any] = {"Bucket": bucket, "Key": key}
    if version is not None:
        where["VersionId"] = version
    try:
        found = boto3.client("s3").get_object(**where)
        if found["ContentLength"] > ZIP_BYTES_MAX:
            raise InvalidFunction(f"Unzipped size must be smaller than {ZIP_BYTES_MAX} bytes")
        content: bytes = found["Body"].read()
    except ClientError as error:
        about = error.response["Error"]
        raise InvalidFunction(
            f"Error occurred while GetObject. S3 Error Code: {about['Code']}. "
            f"S3 Error Message: {about['Message']}"
        ) from error
    except BotoCoreError as error:
        raise InvalidFunction(f"S3 could not be reached: {error}") from error
    return content
