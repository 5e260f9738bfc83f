"""Makes the broker of an application as its users would write it."""

from nats.js.api import ConsumerConfig, DeliverPolicy
from taskiq import AsyncBroker
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue
from taskiq_nats import NatsBroker, PullBasedJetStreamBroker, PushBasedJetStreamBroker
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

from tests.integration.apps.settings import AppSettings, BrokerKind


def make_broker(settings: AppSettings) -> AsyncBroker:
    """Make a broker, with a result backend where the settings name one."""
    broker = _of_kind(settings)
    if settings.results_url:
        broker = broker.with_result_backend(RedisAsyncResultBackend(settings.results_url))
    return broker


def _of_kind(settings: AppSettings) -> AsyncBroker:
    url, queue = settings.broker_url, settings.queue
    match settings.broker:
        case BrokerKind.LIST:
            return ListQueueBroker(url, queue_name=queue)
        case BrokerKind.STREAM:
            return RedisStreamBroker(url, queue_name=queue)
        case BrokerKind.RABBIT:
            return AioPikaBroker(
                url, exchange=Exchange(name=queue), task_queues=[Queue(name=queue)]
            )
        case BrokerKind.NATS:
            return NatsBroker(url, subject=queue, queue="workers")
        case BrokerKind.JETSTREAM_PUSH:
            # Every process of this broker consumes, clients too. With a durable consumer the
            # second one could not start, in a queue group a client would swallow messages.
            own = ConsumerConfig(deliver_policy=DeliverPolicy.NEW)
            return PushBasedJetStreamBroker(
                url, subject=queue, stream_name=queue, consumer_config=own
            )
        case BrokerKind.JETSTREAM_PULL:
            return PullBasedJetStreamBroker(url, subject=queue, stream_name=queue, durable=queue)
