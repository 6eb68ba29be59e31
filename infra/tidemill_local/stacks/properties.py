"""Owns the translation of a template's values into an API's parameters, by botocore's models. Pure.

YAML, `Ref` of a parameter and `Fn::Sub` give text where an API takes numbers and booleans: CloudFormation
converts them, and so does this. What a model does not know is left for botocore to reject by name.
"""

from collections.abc import Mapping
from typing import Any

from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape

_NUMBERS = {"integer": int, "long": int, "float": float, "double": float}
_BOOLEANS = {"true": True, "false": False}


def parameters(model: OperationModel, properties: Mapping[str, Any]) -> dict[str, Any]:
    """The properties that the operation takes, converted to the types of its input."""
    shape = model.input_shape
    assert shape is not None
    return {
        name: converted(shape.members[name], value)
        for name, value in properties.items()
        if name in shape.members
    }


def converted(shape: Shape, value: Any) -> Any:
    """A value as the shape wants it; one that cannot be converted stays, for botocore to reject."""
    if isinstance(shape, StructureShape) and isinstance(value, Mapping):
        return {
            name: converted(shape.members[name], member) if name in shape.members else member
            for name, member in value.items()
        }
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [converted(shape.member, member) for member in value]
    if isinstance(shape, MapShape) and isinstance(value, Mapping):
        return {str(key): converted(shape.value, member) for key, member in value.items()}
    return _scalar(shape.type_name, value)


def _scalar(type_name: str, value: Any) -> Any:
    if type_name == "boolean" and isinstance(value, str):
        return _BOOLEANS.get(value.lower(), value)
    if type_name in _NUMBERS and isinstance(value, str):
        try:
            return _NUMBERS[type_name](value)
        except ValueError:
            return value
    if type_name == "string" and isinstance(value, bool):
        return "true" if value else "false"
    if type_name == "string" and isinstance(value, int | float):
        return str(value)
    return value


def tags_of(properties: Mapping[str, Any]) -> dict[str, str]:
    """`Tags` as an API's map, without CloudFormation's own, in AWS's reserved prefix."""
    found = properties.get("Tags") or []
    pairs = (
        found.items() if isinstance(found, Mapping) else ((tag["Key"], tag.get("Value", "")) for tag in found)
    )
    return {str(key): str(value) for key, value in pairs if not str(key).lower().startswith("aws:")}
