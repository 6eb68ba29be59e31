"""Starts AWS's runtime client in a handler's process, with Lambda's order of packages.

Run as a script by the function's interpreter, Python 3.10 or newer: `launch.py PACKAGES LAYERS HANDLER`. The
client is imported before the function's code can be found, so that no module of a function shadows what the
client needs; from then on the order is Lambda's: task root, layers, PYTHONPATH, the library, the packages.
"""

import os
import sys
from typing import Any


def main() -> None:
    """Run the handler named last."""
    packages, layers = (argument.split(os.pathsep) for argument in sys.argv[1:3])
    handler = sys.argv[3]
    if sys.path and sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
        del sys.path[0]
    given = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    library = [entry for entry in sys.path if entry not in given]
    sys.path[:] = [*packages, *library]
    bootstrap, client = _client(handler)
    if sys.flags.no_site:
        # The names that every program expects of a started interpreter.
        import site

        site.setquit()
        site.sethelper()
    # PYTHONPATH names the packages for what a handler starts; here they come last.
    own = [entry for entry in given if entry not in packages]
    sys.path[:] = [os.environ["LAMBDA_TASK_ROOT"], *filter(None, layers), *own, *library, *packages]
    bootstrap.run(handler, client)


def _client(handler: str) -> Any:
    """Import and make AWS's client; it keeps the path of now for what it imports late."""
    from awslambdaric import bootstrap
    from awslambdaric.lambda_config import LambdaConfigProvider
    from awslambdaric.lambda_runtime_client import LambdaRuntimeClient

    runtime_path = sys.path[:]

    class Client(LambdaRuntimeClient):  # type: ignore[misc]  # awslambdaric has no types
        def post_init_error(self, *arguments: Any, **options: Any) -> None:
            """Import http.client, which AWS's client does no earlier, from the library."""
            users_path, users_modules = sys.path[:], {}
            for name in [name for name in sys.modules if name.partition(".")[0] == "http"]:
                users_modules[name] = sys.modules.pop(name)
            sys.path[:] = runtime_path
            try:
                super().post_init_error(*arguments, **options)
            finally:
                sys.path[:] = users_path
                sys.modules.update(users_modules)

    config = LambdaConfigProvider(["awslambdaric", handler])
    return bootstrap, Client(config.api_address, config.use_thread_polling)


if __name__ == "__main__":
    main()
