"""Lambda's event source mapping API over HTTP: validates a call, writes the store, answers; nothing else.

Nothing here starts, stops or asks a source: the fleet reconciles with the store and moves states on.
`__main__` serves the application and passes in the routes under /_tidemill/.

See docs/decisions/0500.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import time
import uuid
from collections import abc
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from tidemill_awsapi import ApiError, Call, Service
from tidemill_poller.control_api.functions import (
    FunctionLookup,
    parse_function_name,
)
from tidemill_poller.control_api.tags import check_tags, mapping_uuid
from tidemill_poller.destinations import check_destination
from tidemill_poller.errors import (
    FunctionLookupFailed,
    InvalidParameter,
    InvalidPattern,
    MappingNotFound,
    RequestRejected,
    SecretUnreadable,
    SourceUnavailable,
    StoreError,
    UnfilterableField,
)
from tidemill_poller.filters import compile_filters
from tidemill_poller.kafka_auth import check_access
from tidemill_poller.mapping import Mapping, MskSource, State
from tidemill_poller.mapping.conflicts import check_conflicts
from tidemill_poller.mapping.validation import deleted_mapping, new_mapping, updated_mapping
from tidemill_poller.mapping.wire import configuration, damaged_configuration
from tidemill_poller.settings import Settings
from tidemill_poller.store import DamagedMapping, MappingStore

Reply = abc.Mapping[str, Any]
Handler = abc.Callable[[Call], abc.Awaitable[Reply]]
CheckAccess = abc.Callable[[Mapping], abc.Awaitable[None]]

logger = logging.getLogger(__name__)

PAGE_MAX: Final = 100
"""Entries in one reply of ListEventSourceMappings, even when MaxItems asks for more."""

REASON_HEADER: Final = "x-tidemill-reason"
"""More than AWS's text says of what is wrong; boto3 shows it among the HTTP headers of the error."""

REQUEST_BYTES_MAX: Final = 1024 * 1024
"""More than all members of a mapping can have by Lambda's limits."""

FUNCTION_TIMEOUT_S_MAX: Final = 14 * 60
"""Kafka mappings take no function that may run longer (AWS: with-msk-configure)."""


def application(
    store: MappingStore,
    functions: FunctionLookup,
    settings: Settings,
    check_access: CheckAccess,
    extra_routes: abc.Iterable[web.AbstractRouteDef] = (),
) -> web.Application:
    """Return the HTTP application of one poller; `extra_routes` lie under /_tidemill/.

    `check_access` reads the secrets that a mapping names; it raises SourceUnavailable if they cannot be used.
    """
    api = ControlApi(store, functions, settings, check_access)
    service = Service("lambda", api.handlers(), region=settings.region, account_id=settings.account_id)
    app = service.application(max_body_bytes=REQUEST_BYTES_MAX)
    app.add_routes(extra_routes)
    return app


class ControlApi:
    """One handler an operation; a rejected call leaves the store as it was."""

    def __init__(
        self, store: MappingStore, functions: FunctionLookup, settings: Settings, check_access: CheckAccess
    ) -> None:
        self._store = store
        self._functions = functions
        self._settings = settings
        self._check_access = check_access

    def handlers(self) -> dict[str, Handler]:
        """Operation name to handler, as `tidemill_awsapi.Service` takes them."""
        operations: dict[str, Handler] = {
            "CreateEventSourceMapping": self.create,
            "GetEventSourceMapping": self.get,
            "ListEventSourceMappings": self.list,
            "UpdateEventSourceMapping": self.update,
            "DeleteEventSourceMapping": self.delete,
            "TagResource": self.tag,
            "UntagResource": self.untag,
            "ListTags": self.list_tags,
        }
        return {name: _with_awss_errors(handler) for name, handler in operations.items()}

    async def create(self, call: Call) -> Reply:
        """Store a new mapping in state Creating."""
        mapping = new_mapping(call.params, uuid=str(uuid.uuid4()), now_ms=_now_ms(), settings=self._settings)
        self._check_filters(mapping)
        self._check_tables(mapping)
        tags = call.params.get("Tags") or {}
        check_tags(tags)
        await self._check_secrets(mapping)
        mapping = replace(mapping, function_arn=await self._function_arn(call.params["FunctionName"]))
        # No await from here on: what was checked still holds when it is written.
        check_conflicts(mapping, self._store.all())
        self._store.create(mapping, tags=tags)
        return configuration(mapping)

    async def get(self, call: Call) -> Reply:
        """Return the mapping as it stands; of a damaged one, what List shows of it."""
        if damaged := self._damaged(call.params["UUID"]):
            return damaged_configuration(damaged.uuid, damaged.reason)
        return configuration(self._stored(call.params["UUID"]))

    async def list(self, call: Call) -> Reply:
        """Return one page of the mappings that fit the filters, by UUID."""
        params = call.params
        after = _read_marker(params.get("Marker"))
        found = [configuration(one) for one in self._store.all() if one.uuid > after and _wanted(one, params)]
        if not params.get("EventSourceArn") and not params.get("FunctionName"):
            # What a damaged mapping reads and invokes is not known, so no filter finds it.
            found += [
                damaged_configuration(one.uuid, one.reason)
                for one in self._store.damaged()
                if one.uuid > after
            ]
            found.sort(key=lambda one: str(one["UUID"]))
        page = found[: min(params.get("MaxItems") or PAGE_MAX, PAGE_MAX)]
        reply: dict[str, Any] = {"EventSourceMappings": page}
        if len(page) < len(found):
            reply["NextMarker"] = _marker(page[-1]["UUID"])
        return reply

    async def update(self, call: Call) -> Reply:
        """Store a changed mapping in its transitional state."""
        params = call.params
        mapping = self._updated(params)  # rejects what it can before it asks AWS
        if params.get("SourceAccessConfigurations") is not None:
            await self._check_secrets(mapping)
        function_arn = None
        if name := params.get("FunctionName"):
            function_arn = await self._function_arn(name)
        # The mapping may have changed meanwhile; no await from here on.
        mapping = self._updated(params)
        mapping = replace(mapping, function_arn=function_arn or mapping.function_arn)
        check_conflicts(mapping, self._store.all())
        return configuration(self._store.replace(mapping, expected_version=mapping.version))

    async def delete(self, call: Call) -> Reply:
        """Mark the mapping as Deleting; the fleet stops its source and takes it away.

        A damaged one is removed at once; the fleet drains what still runs of it.
        """
        if damaged := self._damaged(call.params["UUID"]):
            self._store.delete(damaged.uuid)
            return damaged_configuration(damaged.uuid, damaged.reason, state=State.DELETING)
        mapping = deleted_mapping(self._stored(call.params["UUID"]), now_ms=_now_ms())
        return configuration(self._store.replace(mapping, expected_version=mapping.version))

    async def tag(self, call: Call) -> Reply:
        """Add tags, or give them new values."""
        found, tags = self._tagged(call.params["Resource"])
        tags.update(call.params["Tags"])
        check_tags(tags)
        self._store.set_tags(found, tags)
        return {}

    async def untag(self, call: Call) -> Reply:
        """Remove tags; keys that do not exist are ignored."""
        found, tags = self._tagged(call.params["Resource"])
        unwanted = set(call.params["TagKeys"])
        self._store.set_tags(found, {key: value for key, value in tags.items() if key not in unwanted})
        return {}

    async def list_tags(self, call: Call) -> Reply:
        """Return all tags of one mapping."""
        return {"Tags": self._tagged(call.params["Resource"])[1]}

    def _damaged(self, wanted: str) -> DamagedMapping | None:
        return next((one for one in self._store.damaged() if one.uuid == wanted), None)

    def _stored(self, wanted: str) -> Mapping:
        mapping = self._store.get(wanted)
        if mapping is None:
            raise MappingNotFound
        return mapping

    def _updated(self, params: abc.Mapping[str, Any]) -> Mapping:
        stored = self._stored(params["UUID"])
        mapping = updated_mapping(stored, params, now_ms=_now_ms(), settings=self._settings)
        if mapping.filter_patterns != stored.filter_patterns:
            self._check_filters(mapping)
        self._check_tables(mapping)
        return mapping

    def _tagged(self, resource: str) -> tuple[str, dict[str, str]]:
        found = mapping_uuid(resource)
        if self._stored(found).arn != resource:
            raise MappingNotFound
        return found, self._store.tags(found) or {}

    def _check_filters(self, mapping: Mapping) -> None:
        try:
            compile_filters(mapping.filter_patterns, operators=self._settings.filter_operators)
        except UnfilterableField as error:
            raise InvalidParameter(str(error)) from error
        except InvalidPattern as error:
            raise InvalidParameter("Invalid filter pattern definition.", reason=str(error)) from error

    @staticmethod
    def _check_tables(mapping: Mapping) -> None:
        """Check what the mapping names of the two tables that people extend."""
        check_access(mapping.access, msk=isinstance(mapping.source, MskSource))
        if mapping.on_failure is not None:
            check_destination(mapping.on_failure, source_topic=mapping.topic)

    async def _check_secrets(self, mapping: Mapping) -> None:
        """Read them, as AWS does (D: with the role of the function), before anything is stored."""
        try:
            await self._check_access(mapping)
        except SecretUnreadable as error:
            logger.warning("secret not read function=%s reason=%s", mapping.function_arn, error)
            raise InvalidParameter(error.rejection, reason=str(error)) from error
        except SourceUnavailable as error:
            raise InvalidParameter(str(error)) from error

    async def _function_arn(self, name: str) -> str:
        function = await self._functions.resolve(name)
        if function is None:
            raise InvalidParameter("Function does not exist")
        if function.timeout_s > FUNCTION_TIMEOUT_S_MAX:
            raise InvalidParameter(
                f"The function's timeout of {function.timeout_s} s is above the {FUNCTION_TIMEOUT_S_MAX} s"
                " that a Kafka event source mapping allows: lower it and try again."
            )
        return function.arn


def _with_awss_errors(handler: Handler) -> Handler:
    """Return the handler with the poller's own exceptions turned into AWS's errors."""

    async def answer(call: Call) -> Reply:
        try:
            return await handler(call)
        except RequestRejected as error:
            raise ApiError(error.code, str(error), headers=_reason(error)) from error
        except (FunctionLookupFailed, StoreError) as error:
            raise ApiError("ServiceException", str(error)) from error

    return answer


def _reason(error: RequestRejected) -> dict[str, str]:
    """Return the header that says more; in one line of ASCII, as a header must be."""
    reason = error.reason if isinstance(error, InvalidParameter) else ""
    return {REASON_HEADER: json.dumps(reason)[1:-1]} if reason else {}


def _wanted(mapping: Mapping, params: abc.Mapping[str, Any]) -> bool:
    arn = params.get("EventSourceArn")
    if arn and mapping.event_source_arn != arn:
        return False
    name = params.get("FunctionName")
    return not name or parse_function_name(name).names(mapping.function_arn)


def _marker(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).decode()


def _read_marker(marker: str | None) -> str:
    try:
        return base64.urlsafe_b64decode(marker or "").decode()
    except (binascii.Error, ValueError) as error:
        raise InvalidParameter("Invalid Marker: give the NextMarker of the page before.") from error


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
