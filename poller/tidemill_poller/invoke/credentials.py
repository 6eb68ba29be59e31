"""The AWS credentials to sign with, renewed beside the event loop."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from botocore.credentials import Credentials, ReadOnlyCredentials

CREDENTIAL_CHECK_S: Final = 5


class CurrentCredentials:
    """Credentials that never block the loop: they are renewed in a thread, by one caller at a time."""

    def __init__(self, source: Credentials | None) -> None:
        self._source = source
        self._frozen: ReadOnlyCredentials | None = None
        self._checked_at_s = float("-inf")
        self._renewal = asyncio.Lock()

    async def now(self) -> ReadOnlyCredentials | None:
        """The credentials to sign with; None when there are none. Raises what the provider raises."""
        if time.monotonic() - self._checked_at_s < CREDENTIAL_CHECK_S:
            return self._frozen
        async with self._renewal:
            if time.monotonic() - self._checked_at_s >= CREDENTIAL_CHECK_S and self._source is not None:
                # Static credentials answer at once; refreshable ones may ask STS or the instance's metadata.
                self._frozen = await asyncio.to_thread(self._source.get_frozen_credentials)
            self._checked_at_s = time.monotonic()
        return self._frozen
