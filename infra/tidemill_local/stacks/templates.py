"""Owns how large a template may become: its YAML before it is read, and what its loops make of it.

A few hundred bytes of aliases, or four loops within one another, are more than a machine's memory. Knows no
ministack. Authority: AWS's "CloudFormation template formats" (no aliases in YAML) and its quotas.
"""

from collections.abc import Callable
from typing import Any, Final

import yaml

from tidemill_local.errors import TemplateTooLarge

# AWS's limits are 500 resources and 1 MB; these are well above what fits into them.
_DEPTH_MAX: Final = 64
_VALUES_MAX: Final = 100_000
_ALIAS: Final = "YAML aliases are not allowed in CloudFormation templates"
# libyaml's reader where PyYAML has it: ten times as fast, and without a stack that a template can fill.
_LOADER: Final[type[Any]] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_OPENS: Final = (yaml.SequenceStartEvent, yaml.MappingStartEvent)
_CLOSES: Final = (yaml.SequenceEndEvent, yaml.MappingEndEvent)


def check_yaml(text: str) -> None:
    """Raise TemplateTooLarge for aliases, and for more values or levels than a template has."""
    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        if isinstance(event, yaml.AliasEvent):
            raise TemplateTooLarge(_ALIAS)
        depth += isinstance(event, _OPENS) - isinstance(event, _CLOSES)
        if depth > _DEPTH_MAX:
            raise TemplateTooLarge(f"A template nests {_DEPTH_MAX} levels at most")
        if number > _VALUES_MAX:
            raise TemplateTooLarge(f"A template has {_VALUES_MAX} values at most")


def bounded_loader(loader: Any) -> type[Any]:
    """The engine's loader of a template's YAML, for text that is not too large."""

    class BoundedLoader(loader):  # type: ignore[misc]  # the engine's class, found at run time
        def __init__(self, stream: str) -> None:
            check_yaml(stream)
            super().__init__(stream)

    return BoundedLoader


def bounded_parse(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """The engine's reader of a snippet, for those that are not too large."""

    def bounded(text: str) -> Any:
        if not text.strip().startswith("{"):
            check_yaml(text)
        return parse(text)

    return bounded


class BoundedExpansion:
    """The engine's two functions that expand loops; of one template they make a bounded number of values."""

    def __init__(self, expand: Callable[..., Any], for_each: Callable[..., Any]) -> None:
        self._expand, self._for_each = expand, for_each

    def expand(self, node: Any, bindings: Any, context: Any, ids: bool = False) -> Any:  # noqa: FBT001, FBT002 - the engine's signature
        """Expand the loops of one node."""
        _count(context)
        return self._expand(node, bindings, context, ids)

    def for_each(self, key: str, spec: Any, bindings: Any, context: Any, ids: bool) -> Any:  # noqa: FBT001 - the engine's signature
        """Expand one loop."""
        _count(context)
        return self._for_each(key, spec, bindings, context, ids)


def _count(context: Any) -> None:
    # The engine makes one context for each template.
    context.values = getattr(context, "values", 0) + 1
    if context.values > _VALUES_MAX:
        raise TemplateTooLarge(f"The loops of a template make {_VALUES_MAX} values at most")
