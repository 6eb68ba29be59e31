"""Owns what CloudFormation needs to know of a resource type: its properties, and how one is made and unmade.

Handlers know the properties of a template and the public APIs of the programs; nothing of the engine that
calls them. A handler raises when it cannot do its work: the message becomes the reason of the stack's event.
Authority: AWS's template reference, whose "Update requires" is `replaced_by`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tidemill_local.errors import ResourceFailed
from tidemill_local.stacks.clients import Clients

Properties = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A resource that exists: `Ref` gives its id, `Fn::GetAtt` its attributes."""

    physical_id: str
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """What a create handler is given. ``name`` is unique to the resource, for those that declare none."""

    clients: Clients
    properties: Properties
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What an update handler is given. ``creation`` makes the resource anew, where it must be replaced."""

    clients: Clients
    physical_id: str
    old: Properties
    new: Properties
    creation: Creation

    def changed(self, *names: str) -> bool:
        """Whether one of these properties differs."""
        return any(self.old.get(name) != self.new.get(name) for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceType:
    """One type. ``name_property`` holds a name of the user's; ``tagged`` says that it takes `Tags`."""

    name: str
    required: frozenset[str]
    optional: frozenset[str]
    create: Callable[[Creation], Made]
    delete: Callable[[Clients, str, Properties], None]
    update: Callable[[Change], Made] | None = None
    replaced_by: frozenset[str] = frozenset()
    name_property: str | None = None
    tagged: bool = False

    def check(self, logical_id: str, properties: Properties) -> None:
        """Check names against the type's schema. Raises ResourceFailed in CloudFormation's words."""
        unknown = sorted(set(properties) - self.required - self.optional)
        missing = sorted(name for name in self.required if properties.get(name) is None)
        faults = [f"extraneous key [{name}] is not permitted" for name in unknown]
        faults += [f"required key [{name}] not found" for name in missing]
        if faults:
            found = "\n".join(f"#: {fault}" for fault in faults)
            raise ResourceFailed(
                f"Properties validation failed for resource {logical_id} with message:\n{found}"
            )
