"""The classes of an API's response at one version, so that one piece of code can answer every version."""

from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from functools import cache
from types import ModuleType
from typing import Any, Final

from kio.index import load_payload_module, load_request_schema
from kio.static.constants import EntityType

from tidemill_broker.protocol.frames import RequestHeader

NO_THROTTLE: Final = timedelta(0)


class ResponseSchema:
    """Builds kio's response classes by their names: `schema.MetadataResponseTopic(name=…, topic_id=…)`.

    What this version lacks is dropped, a member or a whole class with the member that holds it, as Kafka's
    own generated messages do with "ignorable" fields; a test checks that every name in use exists somewhere.
    `throttle_time` is 0 unless given.
    """

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def __getattr__(self, class_name: str) -> Callable[..., Any]:
        """Make the builder of one class, once."""
        entity_type = getattr(self._module, class_name, None)
        build = _drop if entity_type is None else _builder(entity_type)
        setattr(self, class_name, build)
        return build


def response_schema(header: RequestHeader) -> ResponseSchema:
    """Give the classes that answer this request; its key and version must be in the table of APIs."""
    return _response_schema(header.api_key, header.api_version)


def load(api_key: int, api_version: int) -> None:
    """Import the classes of a request and of its response, which otherwise the first such request does."""
    load_request_schema(api_key, api_version)
    load_payload_module(api_key, api_version, EntityType.response)


@cache
def _response_schema(api_key: int, api_version: int) -> ResponseSchema:
    return ResponseSchema(load_payload_module(api_key, api_version, EntityType.response))


def _drop(**_members: object) -> None:
    """Stand for a class that the version lacks."""


def _builder(entity_type: type[Any]) -> Callable[..., Any]:
    names = frozenset(field.name for field in fields(entity_type))
    defaults = {"throttle_time": NO_THROTTLE} if "throttle_time" in names else {}

    def build(**members: object) -> Any:
        if names.issuperset(members):
            return entity_type(**(defaults | members))
        return entity_type(**(defaults | {name: value for name, value in members.items() if name in names}))

    return build
