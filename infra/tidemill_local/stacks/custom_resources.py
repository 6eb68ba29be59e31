"""Owns the call of a custom resource's function, which is one of Tidemill's.

The function answers by a PUT to the `ResponseURL` of its event, which the engine takes; one that ends in an
error has nothing more to say, and fails the resource at once. Authority: AWS's "Custom resource request
objects".
"""

import json
import threading
import uuid
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final

from tidemill_local.errors import ResourceFailed
from tidemill_local.stacks.clients import Clients
from tidemill_local.stacks.resource import Properties

_SERVICE_TIMEOUT_S: Final = 3600.0


class CustomResources:
    """``register`` and ``pending`` are the engine's: answers that are expected, by token."""

    def __init__(
        self,
        clients: Callable[[], Clients],
        endpoint_url: str,
        register: Callable[[str], threading.Event],
        pending: MutableMapping[str, Any],
    ) -> None:
        self._clients = clients
        self._endpoint_url = endpoint_url
        self._register = register
        self._pending = pending

    def invoke(  # noqa: PLR0913, PLR0917 - the engine's own signature
        self,
        request_type: str,
        logical_id: str,
        props: Properties,
        stack_name: str,  # noqa: ARG002 - the engine's own signature
        stack_id: str,
        resource_type: str,
        physical_id: str | None = None,
        old_props: Properties | None = None,
    ) -> tuple[str, dict[str, Any]]:
        """Return physical id and attributes. Raises ResourceFailed with the function's reason."""
        token, request_id = str(uuid.uuid4()), str(uuid.uuid4())
        event = {
            "RequestType": request_type,
            "RequestId": request_id,
            "StackId": stack_id,
            "ResponseURL": f"{self._endpoint_url}/_ministack/cfn-response/{token}",
            "ResourceType": resource_type,
            "LogicalResourceId": logical_id,
            "ResourceProperties": _texts(props),
        }
        if physical_id is not None:
            event["PhysicalResourceId"] = physical_id
        if old_props is not None:
            event["OldResourceProperties"] = _texts(old_props)
        answered = self._register(token)
        try:
            self._call(str(props.get("ServiceToken", "")), event, answered)
            timeout_s = float(props.get("ServiceTimeout") or _SERVICE_TIMEOUT_S)
            if not answered.wait(timeout_s):
                raise ResourceFailed(
                    f"CloudFormation received no response from the custom resource within {timeout_s:.0f} s."
                )
            answer = self._pending[token]["result"]
        finally:
            self._pending.pop(token, None)
        if answer.get("Status") != "SUCCESS":
            raise ResourceFailed(
                "Received response status [FAILED] from custom resource. Message returned: "
                f"{answer.get('Reason', '')}"
            )
        return answer.get("PhysicalResourceId") or physical_id or request_id, answer.get("Data") or {}

    def _call(self, service_token: str, event: Mapping[str, Any], answered: threading.Event) -> None:
        if ":lambda:" not in service_token:
            raise ResourceFailed(
                f"ServiceToken takes the ARN of a Lambda function here, not {service_token!r}."
            )
        reply = self._clients().awslambda.invoke(FunctionName=service_token, Payload=json.dumps(event))
        if reply.get("FunctionError") and not answered.is_set():
            raise ResourceFailed(f"The custom resource's function failed: {reply['Payload'].read().decode()}")


def _texts(value: Any) -> Any:
    """Values as CloudFormation sends them: numbers and booleans are text."""
    if isinstance(value, Mapping):
        return {key: _texts(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_texts(item) for item in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value
