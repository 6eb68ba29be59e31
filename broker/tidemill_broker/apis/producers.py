"""InitProducerId 0-5, for idempotent producers; transactions are not built yet."""

from typing import Any, Final

from tidemill_broker.apis.api import Api
from tidemill_broker.apis.broker import Broker
from tidemill_broker.apis.request import Request
from tidemill_broker.auth.authorizer import CLUSTER_NAME, Operation, ResourceType
from tidemill_broker.protocol.errors import ErrorCode


def init_producer_id(broker: Broker, request: Request) -> Any:
    """Answer InitProducerId: an idempotent producer gets a new id each time, with epoch 0, as in Kafka."""
    reply = request.reply
    error, producer_id, epoch = _denial(request, request.body.transactional_id), -1, -1
    if error is ErrorCode.none and request.body.transactional_id is not None:
        # The one code that every client takes for final (docs/decisions/0203).
        error = ErrorCode.transactional_id_authorization_failed
    elif error is ErrorCode.none:
        try:
            producer_id, epoch = broker.producer_ids.take(), 0
        except OSError:
            error = ErrorCode.kafka_storage_error
    return reply.InitProducerIdResponse(error_code=error, producer_id=producer_id, producer_epoch=epoch)


def _denial(request: Request, transactional_id: str | None) -> ErrorCode:
    """Tell why not; idempotence needs no right of its own where any topic may be written (KIP-679)."""
    if transactional_id is not None:
        return request.denial(Operation.WRITE, ResourceType.TRANSACTIONAL_ID, transactional_id)
    if request.allows_some(Operation.WRITE, ResourceType.TOPIC):
        return ErrorCode.none
    return request.denial(Operation.IDEMPOTENT_WRITE, ResourceType.CLUSTER, CLUSTER_NAME)


APIS: Final = (Api(key=22, name="InitProducerId", min_version=0, max_version=5, handle=init_producer_id),)
