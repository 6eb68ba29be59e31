"""Owns the reading of botocore's service models: one service's operations and error shapes, loaded once.

The models lie in models/, so that what is served does not change with the botocore that is installed beside
us. Everything else in this package sees botocore only through what this module returns.
"""

from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

from botocore.loaders import Loader
from botocore.model import ServiceModel as BotocoreServiceModel

_MODELS: Final = Path(__file__).parent / "models"


class ServiceModel:
    """The model of one rest-json service, by botocore's name for it ("lambda", "kafka")."""

    def __init__(self, name: str) -> None:
        self.name = name
        ours = Loader(extra_search_paths=[str(_MODELS)], include_default_search_paths=False)
        self._model = BotocoreServiceModel(ours.load_service_model(name, "service-2"), name)
        if self._model.metadata["protocol"] != "rest-json":
            raise ValueError(f"{name} speaks {self._model.metadata['protocol']}, not rest-json")

    @cached_property
    def operations(self) -> dict[str, Any]:
        """The OperationModel of botocore by operation name."""
        return {name: self._model.operation_model(name) for name in self._model.operation_names}

    @cached_property
    def error_shapes(self) -> dict[str, Any]:
        """The error structures by the code a client sees."""
        return {shape.error_code: shape for shape in self._model.error_shapes}

    @cached_property
    def errors_carry_type(self) -> bool:
        """Whether this service's errors say ``"Type": "User"``, as Lambda's do."""
        return any("Type" in shape.members for shape in self.error_shapes.values())

    def first_error(self, *codes: str) -> str:
        """The first of these codes that the model has; the last one when it has none."""
        return next((code for code in codes if code in self.error_shapes), codes[-1])


@lru_cache(maxsize=8)
def load_service(name: str) -> ServiceModel:
    """The model by botocore's service name; reading one costs some 50 ms, so each is read once."""
    return ServiceModel(name)
