"""Owns the list of resource types that Tidemill's programs make. A new type is one line."""

from typing import Final

from tidemill_local.stacks.attachments import (
    EVENT_INVOKE_CONFIG,
    LAYER_VERSION,
    LAYER_VERSION_PERMISSION,
    PERMISSION,
)
from tidemill_local.stacks.functions import FUNCTION
from tidemill_local.stacks.mappings import EVENT_SOURCE_MAPPING
from tidemill_local.stacks.resource import ResourceType
from tidemill_local.stacks.versions import ALIAS, VERSION

RESOURCE_TYPES: Final[tuple[ResourceType, ...]] = (
    FUNCTION,
    VERSION,
    ALIAS,
    PERMISSION,
    EVENT_INVOKE_CONFIG,
    LAYER_VERSION,
    LAYER_VERSION_PERMISSION,
    EVENT_SOURCE_MAPPING,
)
# The programs serve these: whatever the table above lacks cannot be made.
OWN_PREFIXES: Final = ("AWS::Lambda::", "AWS::MSK::", "AWS::KafkaConnect::")
