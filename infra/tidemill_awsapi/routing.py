"""Finds the operation and its labels for a method and raw path, by the model's requestUri templates.

Works on the path as it came over the wire, so that a URL-encoded ARN (``%2F``) stays one label.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import parse_qsl, unquote

from tidemill_awsapi.model import ServiceModel

_LABEL = re.compile(r"\{(\w+)(\+?)\}")
# Some HTTP stacks decode %2F early: an ARN may then span segments.
_ONE_LABEL = r"(?P<{name}>arn(?::|%3[Aa]).+?|[^/]+)"
_GREEDY_LABEL = r"(?P<{name}>.+)"


class Route:
    """One operation's template: ``GET /2018-10-31/layers?find=LayerVersion``."""

    def __init__(self, operation: str, request_uri: str) -> None:
        path, _, query = request_uri.partition("?")
        self.operation = operation
        self.required_query = dict(parse_qsl(query, keep_blank_values=True))
        self.pattern = re.compile(_path_pattern(path.rstrip("/")))
        self.literal_characters = len(_LABEL.sub("", path))

    @property
    def specificity(self) -> tuple[bool, int]:
        """Routes that ask for a query item, then those with more literal text, are tried first."""
        return (bool(self.required_query), self.literal_characters)


class Router:
    """Matches requests of one service; matched paths are remembered, as clients repeat themselves."""

    def __init__(self, model: ServiceModel) -> None:
        routes: dict[str, list[Route]] = {}
        for name, operation in model.operations.items():
            routes.setdefault(operation.http["method"], []).append(Route(name, operation.http["requestUri"]))
        self._routes = {
            method: sorted(found, key=lambda route: route.specificity, reverse=True)
            for method, found in routes.items()
        }
        self._candidates = lru_cache(maxsize=1024)(self._find)

    def match(
        self, method: str, raw_path: str, query: Mapping[str, str]
    ) -> tuple[str, Mapping[str, str]] | None:
        """The operation's name and its decoded labels; None when the service has no such route."""
        for route, labels in self._candidates(method, raw_path):
            if not route.required_query or route.required_query.items() <= dict(query).items():
                return route.operation, labels
        return None

    def _find(self, method: str, raw_path: str) -> tuple[tuple[Route, Mapping[str, str]], ...]:
        path = raw_path.rstrip("/")
        return tuple(
            (route, {name: unquote(value) for name, value in found.groupdict().items()})
            for route in self._routes.get(method, ())
            if (found := route.pattern.fullmatch(path))
        )


def _path_pattern(path: str) -> str:
    pattern, end = "", 0
    for label in _LABEL.finditer(path):
        template = _GREEDY_LABEL if label[2] else _ONE_LABEL
        pattern += re.escape(path[end : label.start()]) + template.format(name=label[1])
        end = label.end()
    return pattern + re.escape(path[end:])
