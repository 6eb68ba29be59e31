"""What the table of authorization is about, as one broker calls it, and what its replies say of it.

Many worlds fit into one broker: each has a suffix. "orders" is a topic of one partition that holds a record,
"crew" an empty group with a committed offset in it; "absent", "fresh" and "ghost" are names of nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final

from tidemill_broker.auth.authorizer import CLUSTER_NAME, Operation, ResourceType

PARTS: Final = ("orders", "absent", "fresh", "crew", "ghost", "payments", "somebody")
# The broker's id, as configs name it.
BROKER: Final = "1"
# An id that no topic has.
UNKNOWN_ID: Final = uuid.UUID(int=0x7D5A0B6C1E2F4A3B8C9D0E1F2A3B4C5D)

# Members that say what a part of a reply is about.
_LABELS: Final = ("name", "topic", "group_id", "key", "resource_name", "transactional_id", "user")
_INDEXES: Final = ("partition_index", "partition", "index")
_NOT_ASKED: Final = -(2**31)


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """One right, as the table writes it: `Read Topic orders`, `Alter Cluster`."""

    text: str

    @property
    def operation(self) -> Operation:
        return Operation[_constant(self.text.split()[0])]

    @property
    def resource_type(self) -> ResourceType:
        return ResourceType[_constant(self.text.split()[1])]

    @property
    def part(self) -> str:
        """What it is a right to; the cluster has one name only."""
        return CLUSTER_NAME if self.resource_type is ResourceType.CLUSTER else self.text.split()[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the parts are called; `#orders` is the topic by its id, `#absent` an id of nothing."""

    suffix: str
    orders_id: uuid.UUID

    def name(self, part: str) -> str:
        return f"{part}{self.suffix}" if part in PARTS else part

    def filled(self, template: Any) -> Any:
        """Put this world's names into a request that is written with parts."""
        if isinstance(template, dict):
            return {name: self.filled(value) for name, value in template.items()}
        if isinstance(template, list):
            return [self.filled(each) for each in template]
        if isinstance(template, str):
            return {"#orders": self.orders_id, "#absent": UNKNOWN_ID}.get(template) or self.name(template)
        return template

    def verdict(self, reply: Any) -> str:
        """What a reply says of the parts: `orders=0 orders/0=29`; of itself, `reply=31`; rights, `:Read`."""
        return " ".join(sorted(self._verdicts(reply, "")))

    def _verdicts(self, entity: Any, path: str) -> Iterator[str]:
        said = {field.name: getattr(entity, field.name) for field in fields(entity)}
        code = said.get("error_code")
        operations = next((said[name] for name in said if name.endswith("authorized_operations")), _NOT_ASKED)
        inner = [each for value in said.values() if isinstance(value, tuple) for each in value]
        parts = [each for each in inner if is_dataclass(each)]
        if code is not None or operations != _NOT_ASKED or (path and not parts):
            error = "" if code is None else f"={int(code)}"
            rights = "" if operations == _NOT_ASKED else f":{_operations(operations)}"
            yield f"{path or 'reply'}{error}{rights}"
        for each in parts:
            if (label := self._label(each)) is not None:
                yield from self._verdicts(each, f"{path}/{label}" if path else label)

    def _label(self, entity: Any) -> str | None:
        """What a part of a reply is about; None for what is none of this world's business."""
        for name in (*_LABELS, "topic_id"):
            label = getattr(entity, name, None)
            if label is not None:
                return self._part(label)
        for name in _INDEXES:
            if hasattr(entity, name):
                return str(getattr(entity, name))
        return "*" if hasattr(entity, "error_code") else None

    def _part(self, label: object) -> str | None:
        if isinstance(label, uuid.UUID):
            return {self.orders_id: "#orders", UNKNOWN_ID: "#absent"}.get(label)
        return next((part for part in (*PARTS, BROKER) if self.name(part) == label), None)


def _operations(bits: int) -> str:
    return "+".join(_word(each.name) for each in Operation if bits >> each & 1) or "nothing"


def _constant(word: str) -> str:
    """`DescribeConfigs` as `DESCRIBE_CONFIGS`."""
    return "".join(f"_{letter}" if letter.isupper() else letter for letter in word).strip("_").upper()


def _word(constant: str) -> str:
    return constant.title().replace("_", "")
