"""Amazon Resource Names: the one grammar of the poller. Pure.

Partial ARNs of functions are `control_api.functions`' own: AWS takes those nowhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_ARN: Final = re.compile(
    r"arn:(?P<partition>aws[a-zA-Z-]*):(?P<service>[a-z0-9-]+):(?P<region>[a-z0-9-]*)"
    r":(?P<account>\d{12}|):(?P<resource>\S+)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arn:
    """An ARN taken apart; region and account are empty where the service's ARNs have none."""

    partition: str
    service: str
    region: str
    account: str
    resource: str

    def __str__(self) -> str:
        return f"arn:{self.partition}:{self.service}:{self.region}:{self.account}:{self.resource}"


def parse_arn(text: str) -> Arn | None:
    """Return the ARN, or None when the text is not one."""
    match = _ARN.fullmatch(text)
    return Arn(**match.groupdict()) if match else None
