"""InitProducerId 0-5, for idempotent producers; transactions are not built yet."""

from typing import Any, Final

from tidemill_broker.apis.api import Api
from tidemill_broker.apis.authorization import denial
from tidemill_broker.apis.broker import Broker, Connection
from tidemill_broker.auth.authorizer import CLUSTER_NAME, Operation, ResourceType
from tidemill_broker.protocol.errors import ErrorCode
from tidemill_broker.protocol.frames import RequestHeader
from tidemill_broker.protocol.schema import response_schema


def init_producer_id(broker: Broker, connection: Connection, header: RequestHeader, request: Any) -> Any:
    """Answer InitProducerId: an idempotent producer gets a new id each time, with epoch 0, as in Kafka."""
    reply = response_schema(header)
    error, producer_id, epoch = _denial(connection, request.transactional_id), -1, -1
    if error is ErrorCode.none and request.transactional_id is not None:
        # The one code that every client takes for final (docs/decisions/0203).
        error = ErrorCode.transactional_id_authorization_failed
    elif error is ErrorCode.none:
        try:
            producer_id, epoch = broker.producer_ids.take(), 0
        except OSError:
            error = ErrorCode.kafka_storage_error
    return reply.InitProducerIdResponse(error_code=error, producer_id=producer_id, producer_epoch=epoch)


def _denial(connection: Connection, transactional_id: str | None) -> ErrorCode:
    """Tell why not; idempotence needs no right of its own where any topic may be written (KIP-679)."""
    if transactional_id is not None:
        return denial(
            connection,
            Operation.WRITE,
            ResourceType.TRANSACTIONAL_ID,
            transactional_id,
            api="InitProducerId",
        )
    if connection.rights.allows_some(Operation.WRITE, ResourceType.TOPIC):
        return ErrorCode.none
    return denial(
        connection, Operation.IDEMPOTENT_WRITE, ResourceType.CLUSTER, CLUSTER_NAME, api="InitProducerId"
    )


APIS: Final = (Api(key=22, name="InitProducerId", min_version=0, max_version=5, handle=init_producer_id),)
