"""Resource policies as Lambda writes them: statements, documents, and what is refused of either. Pure.

They are kept and answered: nobody is denied on one machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tidemill_awsapi import ApiError
from tidemill_functions.api.description import not_there

Statement = Mapping[str, Any]


def as_text(document: Mapping[str, Any]) -> str:
    """Return JSON as Lambda answers it: a policy is a string in its replies."""
    return json.dumps(document, separators=(",", ":"))


def policy(statements: Sequence[Statement]) -> str:
    """Return the policy of these statements."""
    return as_text({"Version": "2012-10-17", "Id": "default", "Statement": statements})


def check_new(statements: Sequence[Statement], sid: str) -> None:
    """Raise ApiError if there is a statement of this id."""
    if any(one["Sid"] == sid for one in statements):
        raise ApiError(
            "ResourceConflictException",
            f"The statement id ({sid}) provided already exists. Please provide a new statement id, or "
            "remove the existing statement.",
        )


def without(statements: Sequence[Statement], sid: str) -> Sequence[Statement]:
    """Return the statements but that of this id. Raises ApiError if there is none."""
    left = [one for one in statements if one["Sid"] != sid]
    if len(left) == len(statements):
        raise not_there(f"Statement {sid} is not found in resource policy.")
    return left


def statement(params: Mapping[str, Any], arn: str) -> dict[str, Any]:
    """Return the statement as Lambda writes it."""
    equals: dict[str, str | None] = {
        "AWS:SourceAccount": params.get("SourceAccount"),
        "aws:PrincipalOrgID": params.get("PrincipalOrgID", params.get("OrganizationId")),
        "lambda:EventSourceToken": params.get("EventSourceToken"),
        "lambda:FunctionUrlAuthType": params.get("FunctionUrlAuthType"),
    }
    condition: dict[str, Any] = {}
    if given := {key: value for key, value in equals.items() if value is not None}:
        condition["StringEquals"] = given
    if "SourceArn" in params:
        condition["ArnLike"] = {"AWS:SourceArn": params["SourceArn"]}
    return {
        "Sid": params["StatementId"],
        "Effect": "Allow",
        "Principal": _principal(params["Principal"]),
        "Action": params["Action"],
        "Resource": arn,
        **({"Condition": condition} if condition else {}),
    }


def _principal(text: str) -> Any:
    if text == "*":
        return text
    if text.isdigit():
        return {"AWS": f"arn:aws:iam::{text}:root"}
    return {"AWS": text} if text.startswith("arn:") else {"Service": text}
