"""Functions that exist by saying so: a FunctionLookup in memory, and a Lambda API for the real one to ask."""

from __future__ import annotations

from collections import abc
from typing import Any

from aiohttp import web

from tidemill_awsapi import ApiError, Call, Service
from tidemill_poller.control_api.functions import FunctionView, parse_function_name

ACCOUNT = "123456789012"
ARN = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:"


class FakeFunctions:
    """Name (with a qualifier, where there is one) -> timeout in seconds."""

    def __init__(self, functions: abc.Mapping[str, int]) -> None:
        self.functions = functions

    async def resolve(self, function_name: str) -> FunctionView | None:
        asked = parse_function_name(function_name)
        timeout_s = self._timeout_s(asked.name, asked.qualifier)
        if timeout_s is None or asked.account not in (None, ACCOUNT):
            return None
        suffix = "" if asked.qualifier is None else f":{asked.qualifier}"
        return FunctionView(arn=f"{ARN}{asked.name}{suffix}", timeout_s=timeout_s)

    def _timeout_s(self, name: str, qualifier: str | None) -> int | None:
        if qualifier in (None, "$LATEST"):
            return self.functions.get(name)
        return self.functions.get(f"{name}:{qualifier}")


def lambda_api(functions: abc.Mapping[str, int]) -> web.Application:
    """The same functions behind GetFunctionConfiguration; `broken` answers as a service in trouble."""

    async def get_function_configuration(call: Call) -> abc.Mapping[str, Any]:
        name, qualifier = call.params["FunctionName"], call.params.get("Qualifier")
        if name == "broken":
            raise ApiError("ServiceException", "Out of order")
        asked = name if qualifier is None else f"{name}:{qualifier}"
        found = await FakeFunctions(functions).resolve(asked)
        if found is None:
            raise ApiError("ResourceNotFoundException", f"Function not found: {ARN}{asked}")
        return {"FunctionArn": found.arn, "Timeout": found.timeout_s}

    return Service(
        "lambda",
        {"GetFunctionConfiguration": get_function_configuration},
        region="us-east-1",
        account_id=ACCOUNT,
    ).application()
