"""Owns the place where Tidemill's resource types enter ministack's CloudFormation engine.

The only module that knows ministack's tables and functions by name. ``install`` checks that each has the
shape known here before it changes one: a ministack that changed is noticed at start, not by a user's stack.
See docs/decisions/0806.
"""

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from botocore.exceptions import ClientError, ParamValidationError, WaiterError

from tidemill_local.errors import EngineChanged, ResourceFailed
from tidemill_local.stacks import nested_stacks
from tidemill_local.stacks.clients import Clients
from tidemill_local.stacks.custom_resources import CustomResources
from tidemill_local.stacks.resource import Change, Creation, Made, Properties, ResourceType
from tidemill_local.stacks.table import OWN_PREFIXES, RESOURCE_TYPES
from tidemill_local.stacks.template_urls import by_path
from tidemill_local.stacks.templates import BoundedExpansion, bounded_loader, bounded_parse

_PACKAGE: Final = "ministack.services.cloudformation"
# Lambda's limit, and no resource's is shorter.
_NAME_LENGTH_MAX: Final = 64
# What is used of each module: tables, and functions with their parameters.
_TABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "provisioners": (
        "_RESOURCE_HANDLERS",
        "_STACK_TAG_PROPERTY",
        "_REPLACING_PROPERTIES",
        "_CONDITIONALLY_REPLACING_PROPERTIES",
        "_CUSTOM_NAME_REPLACEMENT",
    ),
    "drift": ("_DRIFT_READERS",),
    "changesets": ("_IMPORT_LOOKUPS",),
    "custom_resource": ("_pending",),
}
_FUNCTIONS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "provisioners": {
        "_physical_name": ("stack_name", "logical_id", "lowercase", "max_len", "seeded"),
        "_update_resource": (
            *(
                "resource_type",
                "physical_id",
                "old_props",
                "new_props",
                "stack_name",
                "logical_id",
                "old_attrs",
            ),
        ),
        "_provision_resource": ("resource_type", "logical_id", "props", "stack_name"),
        "_delete_resource": ("resource_type", "physical_id", "props", "stack_name", "logical_id"),
    },
    "stacks": {"_runs_on_worker_thread": ("resource_type",)},
    "engine": {
        "_parse_template": ("template_body",),
        "CfnLoader": ("stream",),
        "_parse_snippet": ("text",),
        "_apply_transforms": ("template", "provided_params", "previous_params"),
    },
    "helpers": {"_resolve_document": ("params", "body_key", "url_key", "label")},
    "language_extensions": {
        "_expand": ("node", "bindings", "context", "ids"),
        "_for_each": ("key", "spec", "bindings", "context", "ids"),
    },
    "custom_resource": {
        "register_token": ("token",),
        "invoke_custom_resource": (
            *(
                "request_type",
                "logical_id",
                "props",
                "stack_name",
                "stack_id",
                "resource_type",
                "physical_id",
            ),
            "old_props",
        ),
    },
}
Result = TypeVar("Result")
_HANDLER_CODES: Final = {
    "ResourceConflictException": "AlreadyExists",
    "ResourceNotFoundException": "NotFound",
    "TooManyRequestsException": "Throttling",
}


class Engine:
    """ministack's CloudFormation, after its shape was checked. Raises EngineChanged."""

    def __init__(self) -> None:
        self._modules = {name: _module(name) for name in sorted({*_TABLES, *_FUNCTIONS})}
        for module, names in _TABLES.items():
            for name in names:
                if not isinstance(getattr(self._modules[module], name, None), dict):
                    raise _changed(f"{module}.{name} is no table")
        for module, functions in _FUNCTIONS.items():
            for name, parameters in functions.items():
                function = getattr(self._modules[module], name, None)
                if not callable(function) or tuple(inspect.signature(function).parameters) != parameters:
                    raise _changed(f"{module}.{name} does not take ({', '.join(parameters)})")

    def table(self, module: str, name: str) -> dict[str, Any]:
        """One of the tables."""
        found: dict[str, Any] = getattr(self._modules[module], name)
        return found

    def function(self, module: str, name: str) -> Callable[..., Any]:
        """One of the functions."""
        found: Callable[..., Any] = getattr(self._modules[module], name)
        return found

    def replace(self, module: str, name: str, function: Callable[..., Any]) -> None:
        """Let the engine call another function."""
        setattr(self._modules[module], name, function)


def install(endpoint_url: str) -> None:
    """Let stacks make Tidemill's resource types through this endpoint, and no other of their services.

    Raises EngineChanged if ministack is not as it is known here.
    """
    engine = Engine()
    region = importlib.import_module("ministack.core.responses").get_region

    @functools.cache
    def clients_of(name: str) -> Clients:
        return Clients(endpoint_url, name)

    def clients() -> Clients:
        return clients_of(region())

    _forget_own_types(engine)
    physical_name = engine.function("provisioners", "_physical_name")
    for resource_type in RESOURCE_TYPES:
        _register(engine, resource_type, clients, physical_name)
    own = {resource_type.name for resource_type in RESOURCE_TYPES}
    runs_on_worker_thread = engine.function("stacks", "_runs_on_worker_thread")
    # Handlers call the programs, which call this process for packages in S3: never on its event loop.
    engine.replace(
        "stacks", "_runs_on_worker_thread", lambda name: name in own or runs_on_worker_thread(name)
    )
    custom = CustomResources(
        clients,
        endpoint_url,
        engine.function("custom_resource", "register_token"),
        engine.table("custom_resource", "_pending"),
    )
    engine.replace("custom_resource", "invoke_custom_resource", custom.invoke)
    _bound_templates(engine)
    _complete_nested_stacks(engine)
    _read_templates_by_host(engine, urlsplit(endpoint_url).hostname or "")


def reject_own_types() -> None:
    """Let stacks reject the types of Tidemill's programs, where there is no endpoint that has them.

    Raises EngineChanged as `install` does.
    """
    _forget_own_types(Engine())


def _bound_templates(engine: Engine) -> None:
    # By its loader, for other modules hold the reader of templates by a name of their own.
    engine.replace("engine", "CfnLoader", bounded_loader(engine.function("engine", "CfnLoader")))
    engine.replace("engine", "_parse_snippet", bounded_parse(engine.function("engine", "_parse_snippet")))
    expansion = BoundedExpansion(
        engine.function("language_extensions", "_expand"), engine.function("language_extensions", "_for_each")
    )
    engine.replace("language_extensions", "_expand", expansion.expand)
    engine.replace("language_extensions", "_for_each", expansion.for_each)


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"{_PACKAGE}.{name}")
    except ImportError as error:
        raise _changed(str(error)) from error


def _changed(what: str) -> EngineChanged:
    return EngineChanged(
        f"This ministack is not the one that Tidemill's stacks are made for ({what}): install the version "
        "that Tidemill's package asks for."
    )


def _forget_own_types(engine: Engine) -> None:
    """Take ministack's own Lambda and MSK out: what they made would not be there for anybody else."""
    for module, names in _TABLES.items():
        for name in names:
            table = engine.table(module, name)
            for resource_type in [key for key in table if key.startswith(OWN_PREFIXES)]:
                del table[resource_type]


def _register(
    engine: Engine,
    resource_type: ResourceType,
    clients: Callable[[], Clients],
    physical_name: Callable[..., str],
) -> None:
    name = resource_type.name
    handlers = _Handlers(resource_type, clients, physical_name)
    engine.table("provisioners", "_RESOURCE_HANDLERS")[name] = {
        "create": handlers.create,
        "update": handlers.update,
        "update_with_logical_id": True,
        "delete": handlers.delete,
    }
    engine.table("provisioners", "_REPLACING_PROPERTIES")[name] = tuple(sorted(resource_type.replaced_by))
    if resource_type.name_property in resource_type.replaced_by and resource_type.update is not None:
        engine.table("provisioners", "_CUSTOM_NAME_REPLACEMENT")[name] = {"name": resource_type.name_property}
    if resource_type.tagged:
        engine.table("provisioners", "_STACK_TAG_PROPERTY")[name] = ("Tags", "list")


def _read_templates_by_host(engine: Engine, endpoint_host: str) -> None:
    resolve = engine.function("helpers", "_resolve_document")

    def resolve_by_path(params: Mapping[str, Any], body_key: str, url_key: str, label: str) -> object:
        urls = params.get(url_key)
        if isinstance(urls, list):
            params = {**params, url_key: [by_path(url, endpoint_host) for url in urls]}
        return resolve(params, body_key, url_key, label)

    engine.replace("helpers", "_resolve_document", resolve_by_path)


def _complete_nested_stacks(engine: Engine) -> None:
    # Not a plain table: it answers for the account and region of the request.
    stacks = importlib.import_module(_PACKAGE)._stacks  # noqa: SLF001 - nothing public has them
    handlers = engine.table("provisioners", "_RESOURCE_HANDLERS")["AWS::CloudFormation::Stack"]
    handlers["create"] = nested_stacks.creating(handlers["create"], handlers["delete"], stacks)
    handlers["update"] = nested_stacks.updating(handlers["update"])
    engine.replace(
        "provisioners",
        "_update_resource",
        nested_stacks.keeping_attributes(engine.function("provisioners", "_update_resource"), stacks),
    )
    engine.replace(
        "engine",
        "_parse_template",
        nested_stacks.transforming(
            engine.function("engine", "_parse_template"), engine.function("engine", "_apply_transforms")
        ),
    )


class _Handlers:
    """One type's handlers as the engine calls them: a tuple is a resource, an exception a reason."""

    def __init__(
        self,
        resource_type: ResourceType,
        clients: Callable[[], Clients],
        physical_name: Callable[..., str],
    ) -> None:
        self._type = resource_type
        self._clients = clients
        self._physical_name = physical_name

    def create(self, logical_id: str, properties: Properties, stack_name: str) -> tuple[str, dict[str, str]]:
        self._type.check(logical_id, properties)
        creation = self._creation(logical_id, properties, stack_name)
        return _tuple(_telling(lambda: self._type.create(creation)))

    def update(
        self,
        physical_id: str,
        old: Properties,
        new: Properties,
        stack_name: str,
        logical_id: str | None = None,
    ) -> tuple[str, dict[str, str]]:
        self._type.check(logical_id or physical_id, new)
        creation = self._creation(logical_id or physical_id, new, stack_name)
        update = self._type.update
        if update is None:
            return _tuple(_telling(lambda: self._type.create(creation)))
        change = Change(
            clients=creation.clients, physical_id=physical_id, old=old, new=new, creation=creation
        )
        return _tuple(_telling(lambda: update(change)))

    def delete(self, physical_id: str, properties: Properties) -> None:
        _telling(lambda: self._type.delete(self._clients(), physical_id, properties))

    def _creation(self, logical_id: str, properties: Properties, stack_name: str) -> Creation:
        name = self._physical_name(stack_name, logical_id, max_len=_NAME_LENGTH_MAX)
        return Creation(clients=self._clients(), properties=properties, name=name)


def _tuple(made: Made) -> tuple[str, dict[str, str]]:
    return made.physical_id, dict(made.attributes)


def _telling(handler: Callable[[], Result]) -> Result:
    """Run a handler; what an API answered becomes a reason in the words of CloudFormation's events."""
    try:
        return handler()
    except ClientError as error:
        raise ResourceFailed(_reason(error.response)) from error
    except ParamValidationError as error:
        raise ResourceFailed(f"Properties validation failed: {error}") from error
    except WaiterError as error:
        reason = error.last_response.get("Configuration", error.last_response).get("StateReason") or str(
            error
        )
        raise ResourceFailed(f"Resource of this type did not become stable: {reason}") from error


def _reason(reply: Mapping[str, Any]) -> str:
    error, metadata = reply.get("Error", {}), reply.get("ResponseMetadata", {})
    code = _HANDLER_CODES.get(error.get("Code", ""), "InvalidRequest")
    status, request_id = metadata.get("HTTPStatusCode", 0), metadata.get("RequestId", "")
    return (
        f'Resource handler returned message: "{error.get("Message", "")} (Service: Lambda, '
        f'Status Code: {status}, Request ID: {request_id})" (HandlerErrorCode: {code})'
    )
