"""Tags on mappings: whose they are, and how many. Facts: AWS Lambda API reference, TagResource."""

from __future__ import annotations

import re
from collections import abc
from typing import Final

from tidemill_poller.arn import parse_arn
from tidemill_poller.errors import InvalidParameter, MappingNotFound

TAGS_MAX: Final = 50
"""Per resource, in all of AWS."""

_MAPPING: Final = re.compile(r"event-source-mapping:(?P<uuid>[0-9a-f-]{36})")
_RESERVED: Final = "aws:"


def mapping_uuid(resource: str) -> str:
    """Return the UUID in a mapping's ARN.

    Raises MappingNotFound if the ARN is of something else; functions are tagged by the functions' own API.
    """
    arn = parse_arn(resource)
    match = _MAPPING.fullmatch(arn.resource) if arn and arn.service == "lambda" else None
    if match is None:
        raise MappingNotFound
    return match["uuid"]


def check_tags(tags: abc.Mapping[str, str]) -> None:
    """Reject tags that a resource may not have; the lengths were checked before.

    Raises InvalidParameter if there are too many, or a key is one that only AWS may set.
    """
    if len(tags) > TAGS_MAX:
        raise InvalidParameter(f"A mapping can have {TAGS_MAX} tags, and this would make {len(tags)}.")
    for key in tags:
        if key.lower().startswith(_RESERVED):
            raise InvalidParameter(
                f"The tag key '{key}' is reserved: choose one that does not begin with aws:."
            )
