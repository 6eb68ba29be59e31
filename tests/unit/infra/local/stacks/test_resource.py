"""A resource type rejects properties by CloudFormation's words; the table of types holds together."""

from __future__ import annotations

import pytest

from tidemill_local.errors import ResourceFailed
from tidemill_local.stacks.functions import FUNCTION
from tidemill_local.stacks.resource import ResourceType
from tidemill_local.stacks.table import OWN_PREFIXES, RESOURCE_TYPES


def test_an_unknown_and_a_missing_property_are_both_named() -> None:
    with pytest.raises(ResourceFailed) as failed:
        FUNCTION.check("Orders", {"Code": {}, "Rolle": "r"})
    assert str(failed.value) == (
        "Properties validation failed for resource Orders with message:\n"
        "#: extraneous key [Rolle] is not permitted\n#: required key [Role] not found"
    )


def test_a_type_without_an_update_is_replaced_by_every_property() -> None:
    for resource_type in RESOURCE_TYPES:
        in_place = (resource_type.required | resource_type.optional) - resource_type.replaced_by
        unsupported = {"ProvisionedConcurrencyConfig", "FunctionScalingConfig", "RuntimePolicy"}
        if resource_type.update is None:
            assert in_place <= unsupported, resource_type.name


@pytest.mark.parametrize("resource_type", RESOURCE_TYPES, ids=lambda found: found.name)
def test_a_type_replaces_by_properties_that_it_has(resource_type: ResourceType) -> None:
    known = resource_type.required | resource_type.optional
    assert resource_type.name.startswith(OWN_PREFIXES)
    assert resource_type.replaced_by <= known
    assert resource_type.name_property is None or resource_type.name_property in known
    assert not resource_type.tagged or "Tags" in known
