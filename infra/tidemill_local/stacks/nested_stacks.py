"""Owns what ministack lacks of nested stacks: transforms of their templates, and the end of a failed child.

`sam sync` puts its layers into a nested stack whose template is SAM's. A child that fails is unknown to its
parent's rollback, so it ends here, before its failure reaches the parent.
"""

import contextvars
import logging
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final

from tidemill_local.errors import ResourceFailed
from tidemill_local.stacks.resource import Properties

logger = logging.getLogger(__name__)

Reply = tuple[str, dict[str, Any]]
# Whether a nested stack's template is being read: the engine's one reader serves all templates.
_IN_CHILD: Final = contextvars.ContextVar("in_child", default=False)


def transforming(
    parse: Callable[[str], dict[str, Any]], transform: Callable[[dict[str, Any]], dict[str, Any]]
) -> Callable[[str], dict[str, Any]]:
    """The engine's reader of templates, which runs the transforms of a child's."""

    def read(template_body: str) -> dict[str, Any]:
        template = parse(template_body)
        if not _IN_CHILD.get():
            return template
        transformed = transform(template)
        fault = getattr(transformed, "error", None)
        if fault:
            raise ResourceFailed(f"The transform of the nested stack's template failed: {fault}")
        return transformed

    return read


def creating(
    create: Callable[[str, Properties, str], Reply],
    delete: Callable[[str, Properties], None],
    stacks: Mapping[str, Mapping[str, Any]],
) -> Callable[[str, Properties, str], Reply]:
    """The engine's create handler of `AWS::CloudFormation::Stack`; a child that fails is deleted."""

    def handle(logical_id: str, properties: Properties, stack_name: str) -> Reply:
        before = set(stacks)
        token = _IN_CHILD.set(True)
        try:
            return create(logical_id, properties, stack_name)
        except Exception:
            for name in set(stacks) - before:
                if stacks[name].get("_parent_stack_name") == stack_name:
                    delete(name, properties)
            raise
        finally:
            _IN_CHILD.reset(token)

    return handle


def updating(
    update: Callable[[str, Properties, Properties, str], Reply],
) -> Callable[[str, Properties, Properties, str], Reply]:
    """The engine's update handler of `AWS::CloudFormation::Stack`."""

    def handle(physical_id: str, old: Properties, new: Properties, stack_name: str) -> Reply:
        token = _IN_CHILD.set(True)
        try:
            return update(physical_id, old, new, stack_name)
        finally:
            _IN_CHILD.reset(token)

    return handle


def keeping_attributes(
    update: Callable[..., Reply], stacks: Mapping[str, MutableMapping[str, Any]]
) -> Callable[..., Reply]:
    """The engine's update of a child's resource: one that did not change keeps its attributes."""

    def handle(
        resource_type: str,
        physical_id: str,
        old_props: Properties,
        new_props: Properties,
        stack_name: str,
        logical_id: str | None = None,
        old_attrs: Mapping[str, Any] | None = None,
    ) -> Reply:
        if old_attrs is None and logical_id is not None:
            record = stacks.get(stack_name, {}).get("_resources", {}).get(logical_id, {})
            old_attrs = dict(record.get("Attributes", {}))
        return update(resource_type, physical_id, old_props, new_props, stack_name, logical_id, old_attrs)

    return handle
