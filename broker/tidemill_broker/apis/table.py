"""The one table of APIs: key -> versions and handler. ApiVersions is built from it.

To add an API, add its row to the `APIS` of its family's module; a new module goes to FAMILIES.
"""

import asyncio
import logging
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
from tidemill_broker.protocol.schema import load

logger = logging.getLogger(__name__)

# Loading one takes some 3 ms: requests, and programs that start beside the broker, come first.
BETWEEN_LOADS_S: Final = 0.005
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


async def load_schemas() -> None:
    """Import what the requests of each API are read into, and their responses, a little at a time.

    All of them take twice as long as the whole start, so they come after it; but before a request needs one
    when no file descriptor is left to open it.
    """
    for api in APIS.values():
        for version in range(api.min_version, api.max_version + 1) if not api.raw else ():
            try:
                load(api.key, version)
            except (ImportError, OSError) as error:
                # Rather than end the broker: the first such request tries it again.
                logger.warning("requests cannot be loaded api=%s version=%d: %s", api.name, version, error)
            await asyncio.sleep(BETWEEN_LOADS_S)


APIS: Final = make_table(row for family in FAMILIES for row in family.APIS)
versions.advertise(APIS.values())
