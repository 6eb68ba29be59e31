"""Imports kio's types without Hypothesis; `protocol` imports this module before any other of kio.

kio asks for Hypothesis when it is imported, to register strategies that nobody here uses; where the test
extras are installed, that is a third of the broker's start.
"""

import sys

# An entry of None makes the import of Hypothesis fail at once.
_hidden = "hypothesis" not in sys.modules
if _hidden:  # pragma: no branch  # a process takes one way, and tests have Hypothesis
    sys.modules["hypothesis"] = None  # type: ignore[assignment]  # the documented way to block an import
try:
    import kio.static._phantom  # noqa: F401 - imported for its effect: it is then cached without Hypothesis
finally:
    if _hidden:  # pragma: no branch  # as above
        del sys.modules["hypothesis"]
