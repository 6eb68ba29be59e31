"""Reads the zip that a request brings or names in S3. Called by the modules that serve the Lambda API."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from tidemill_functions.api.description import invalid
from tidemill_functions.code import s3
from tidemill_functions.errors import InvalidFunction


async def zip_of(source: Mapping[str, Any]) -> bytes:
    """Return the bytes of ZipFile, or of the object in S3. Raises ApiError as Lambda does."""
    zipped = source.get("ZipFile")
    if zipped is not None:
        brought: bytes = zipped
        return brought
    if "S3Bucket" not in source or "S3Key" not in source:
        raise invalid("Please provide a source for function code.")
    try:
        return await asyncio.to_thread(
            s3.download, source["S3Bucket"], source["S3Key"], source.get("S3ObjectVersion")
        )
    except InvalidFunction as error:
        raise invalid(str(error)) from None
