"""Owns which of ministack's dictionaries are its state, and notes what of them was looked up.

ministack keeps everything in dictionaries of its modules, and changes the values that it finds there. So a
value that was looked up may have changed, by a request or by a thread of a stack's; one that was not has not.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final

from ministack.core.responses import AccountRegionScopedDict, AccountScopedDict

# A store is "module._name", and a place one key in it.
Place = tuple[str, Any]

_PACKAGE: Final = "ministack.services."
# Lambda and MSK are ours; the others grow with each request and no client counts on them after a restart.
_NOT_KEPT: Final = frozenset(
    {
        *("lambda_svc", "lambda_durable", "lambda_microvms", "msk", "cloudtrail"),
        *("dynamodb._stream_records", "dynamodb._stream_trimmed", "dynamodb._closed_streams"),
        *("dynamodb._txn_idempotency", "sns._sms_messages", "eventbridge._events_log"),
        *("cloudwatch._metrics", "cloudwatch._alarm_history", "cloudwatch_logs._queries"),
        *("s3._multipart_uploads", "s3._completed_multipart_uploads"),
    }
)
# Dictionaries without accounts that are state all the same.
_PLAIN: Final = frozenset({"sts._sessions"})
# What one request has looked up: it may change it later, after others were answered.
looked_up: Final[ContextVar[dict[Place, None] | None]] = ContextVar("looked_up", default=None)


class Stores:
    """The dictionaries by name, and the places to look at again."""

    def __init__(self, on_module: Mapping[str, Callable[[Any], None]]) -> None:
        self._on_module = on_module
        self._by_name: dict[str, _Store] = {}
        self._modules: set[str] = set()
        self._modules_seen = 0
        self.places: dict[Place, None] = {}
        self.whole: dict[str, None] = {}

    def adopt(self) -> None:
        """Take in the dictionaries of modules that were imported meanwhile."""
        if len(sys.modules) == self._modules_seen:
            return
        self._modules_seen = len(sys.modules)
        for name in [each for each in sys.modules if each.startswith(_PACKAGE)]:
            module_name = name.removeprefix(_PACKAGE)
            if "." not in module_name and name not in self._modules and module_name not in _NOT_KEPT:
                self._modules.add(name)
                self._adopt_module(module_name, sys.modules[name])

    def names(self) -> list[str]:
        """All stores."""
        return list(self._by_name)

    def keys(self, store: str) -> list[Any]:
        """The keys of a store; none if there is no such store."""
        return list(self._by_name[store]) if store in self._by_name else []

    def value(self, place: Place) -> Any:
        """What is there now, without noting it; None if nothing is."""
        store = self._by_name.get(place[0])
        return None if store is None else dict.get(store, place[1])

    def put(self, place: Place, value: Any) -> bool:
        """Put a value back, without noting it; False if there is no such store."""
        store = self._by_name.get(place[0])
        if store is None:
            return False
        dict.__setitem__(store, place[1], value)
        return True

    def taken(self) -> Iterator[Place]:
        """The places to look at, each once; threads may add others meanwhile."""
        while self.whole:
            store, _ = self.whole.popitem()
            self.places.update(dict.fromkeys((store, key) for key in self.keys(store)))
        while self.places:
            yield self.places.popitem()[0]

    def _adopt_module(self, module_name: str, module: Any) -> None:
        if module_name in self._on_module:
            self._on_module[module_name](module)
        for attribute, found in list(vars(module).items()):
            name = f"{module_name}.{attribute}"
            if name in _NOT_KEPT:
                continue
            if isinstance(found, AccountScopedDict | AccountRegionScopedDict):
                if not isinstance(found._data, _Store):  # noqa: SLF001 - where its values are
                    found._data = self._store(name, found._data)  # noqa: SLF001 - as above
            elif name in _PLAIN:
                setattr(module, attribute, self._store(name, found))

    def _store(self, name: str, content: dict[Any, Any]) -> "_Store":
        store = self._by_name[name] = _Store(content)
        store.name, store.noted = name, self
        self.whole[name] = None
        return store


class _Store(dict[Any, Any]):
    """One dictionary that notes what is looked up; used by threads too."""

    name: str
    noted: Stores

    def _note(self, key: Any) -> None:
        place = (self.name, key)
        self.noted.places[place] = None
        of_request = looked_up.get()
        if of_request is not None:
            of_request[place] = None

    def _note_all(self) -> None:
        for key in list(self):
            self._note(key)

    def __getitem__(self, key: Any) -> Any:
        self._note(key)
        return super().__getitem__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._note(key)
        super().__setitem__(key, value)

    def __delitem__(self, key: Any) -> None:
        self._note(key)
        super().__delitem__(key)

    def get(self, key: Any, default: Any = None) -> Any:
        self._note(key)
        return super().get(key, default)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        self._note(key)
        return super().setdefault(key, default)

    def pop(self, key: Any, *default: Any) -> Any:
        self._note(key)
        return super().pop(key, *default)

    def values(self) -> Any:
        self._note_all()
        return super().values()

    def items(self) -> Any:
        self._note_all()
        return super().items()

    def update(self, *others: Any, **named: Any) -> None:
        super().update(*others, **named)
        self._note_all()

    def clear(self) -> None:
        self._note_all()
        super().clear()
