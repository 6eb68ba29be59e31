"""The engine moto of the embedded AWS: its WSGI application behind our bounds, its state in memory only.

Starts with ``--engine moto``; ministack is the default (docs/decisions/0804). moto reads its account when it
is imported, so nothing here imports it before the account is set.
"""

import argparse
import os
import sys
import threading
from collections.abc import Callable
from typing import Final
from wsgiref.types import WSGIApplication

from aiohttp import web

from tidemill_local.aws.bounded_logs import bound_moto_logs
from tidemill_local.aws.foreign_pages import refusing_foreign_pages
from tidemill_local.aws.moto_stacks import reject_own_types
from tidemill_local.aws.wsgi import application
from tidemill_local.secured.kept_secrets import keep_secrets

_SWITCH_S: Final = 0.0005
_Wrapper = Callable[[WSGIApplication], WSGIApplication]


def moto_application(arguments: argparse.Namespace) -> web.Application:
    """The aiohttp application of the whole engine."""
    os.environ["MOTO_ACCOUNT_ID"] = arguments.account_id
    wsgi = _moto()
    if arguments.identity_file is not None:
        wsgi = _exporting_issued_credentials(arguments)(wsgi)
    # moto's threads work in Python: what waits for them gets its turn ten times as soon.
    sys.setswitchinterval(_SWITCH_S)
    return application(refusing_foreign_pages(wsgi))


def _exporting_issued_credentials(arguments: argparse.Namespace) -> _Wrapper:
    """Write the credentials that IAM and STS issue where the broker reads them."""
    from tidemill_local.aws.iam_calls import around_iam  # noqa: PLC0415 - only with these keys
    from tidemill_local.aws.issued_credentials import PERIOD_S, Export, restore_user  # noqa: PLC0415 - moto, as below

    if arguments.auth_file is not None:
        restore_user(keep_secrets(arguments.auth_file), arguments.account_id, os.environ["AWS_REGION"])
    export = Export(arguments.identity_file)
    # The keys of an earlier start are void; the file says so before the first request.
    export.once()
    threading.Thread(target=export.follow, name="issued credentials", daemon=True).start()
    return lambda application: around_iam(application, export.once, read_after_s=1.2 * PERIOD_S)


def _moto() -> WSGIApplication:
    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415 - after the account id is set
        DomainDispatcherApplication,
        create_backend_app,
    )

    bound_moto_logs()
    reject_own_types()
    application: WSGIApplication = DomainDispatcherApplication(create_backend_app)
    return application
