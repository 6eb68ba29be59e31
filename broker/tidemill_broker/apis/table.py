"""The one table of APIs: key -> versions and handler. ApiVersions is built from it.

To add an API, add its row to the `APIS` of its family's module; a new module goes to FAMILIES.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from tidemill_broker.apis import (
    acls,
    client_quotas,
    cluster,
    configs,
    fetch,
    groups,
    metadata,
    offsets,
    produce,
    producers,
    sasl,
    scram_credentials,
    topics,
    versions,
)
from tidemill_broker.apis.api import Api

FAMILIES: Final = (
    acls,
    client_quotas,
    cluster,
    configs,
    fetch,
    groups,
    metadata,
    offsets,
    produce,
    producers,
    sasl,
    scram_credentials,
    topics,
    versions,
)


def make_table(rows: Iterable[Api]) -> Mapping[int, Api]:
    """Make the table; a key that comes twice, or versions that run backwards, stop the program at import."""
    apis: dict[int, Api] = {}
    for api in rows:
        if api.key in apis:
            raise ValueError(f"API {api.key} is registered by {apis[api.key].name} and by {api.name}")
        if not 0 <= api.min_version <= api.max_version:
            raise ValueError(f"API {api.name} has versions {api.min_version} to {api.max_version}")
        apis[api.key] = api
    return dict(sorted(apis.items()))


APIS: Final = make_table(row for family in FAMILIES for row in family.APIS)
versions.advertise(APIS.values())
