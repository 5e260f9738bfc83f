"""The name of a step's queue is the one that a worker listening there knows it by."""

import pytest
from nats.js.api import ConsumerConfig
from taskiq import AsyncBroker, InMemoryBroker
from taskiq_aio_pika import AioPikaBroker, Queue
from taskiq_nats import NatsBroker, PushBasedJetStreamBroker
from taskiq_redis import ListQueueBroker, RedisStreamBroker

from taskiq_flow.engine.invoke import step_message
from taskiq_flow.engine.routing import own_queues, queue_key, served_queues
from taskiq_flow.model.records import Address

RABBIT = "amqp://guest:guest@localhost:5672/"


@pytest.mark.parametrize(
    ("broker", "labels"),
    [
        (InMemoryBroker(), {"queue_name": "other"}),
        (ListQueueBroker("redis://localhost:6379/2", queue_name="mail"), {}),
        (ListQueueBroker("redis://localhost", queue_name="mail"), {"queue": "is no queue there"}),
        (RedisStreamBroker("redis://localhost", queue_name="mail"), {}),
        (AioPikaBroker(RABBIT), {}),
        (AioPikaBroker(RABBIT, task_queues=[Queue(name="mail")]), {"queue_name": "other"}),
        (NatsBroker("nats://localhost", subject="mail"), {"queue_name": "other"}),
        (
            PushBasedJetStreamBroker("nats://localhost", consumer_config=ConsumerConfig()),
            {"queue": "other"},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_goes_to_a_brokers_own_queue_is_what_its_worker_serves(
    broker: AsyncBroker, labels: dict[str, str]
) -> None:
    """A step whose queue nobody serves would be run, but neither retried nor recovered."""
    assert (queue_key(broker, labels),) == own_queues(broker)


def test_a_rabbitmq_broker_serves_all_its_queues_and_routes_by_its_own_label() -> None:
    queues = [Queue(name="mail"), Queue(name="video", routing_key="v")]
    broker = AioPikaBroker(RABBIT + "shop", task_queues=queues, label_for_routing="to")

    assert own_queues(broker) == ("AioPikaBroker:shop:mail", "AioPikaBroker:shop:v")
    assert queue_key(broker, {"to": "v"}) == "AioPikaBroker:shop:v"


def test_a_rabbitmq_brokers_queue_is_the_same_before_and_after_its_start() -> None:
    """At its start it adds the default queue where none was given."""
    before, after = AioPikaBroker(RABBIT), AioPikaBroker(RABBIT)
    after.with_queue(Queue())

    assert queue_key(before) == queue_key(after)


def test_a_stream_broker_serves_its_additional_streams() -> None:
    broker = RedisStreamBroker(
        "redis://localhost", queue_name="mail", additional_streams={"video": ">"}
    )

    assert own_queues(broker)[1] == queue_key(broker, {"queue_name": "video"})


def test_a_worker_can_also_send_to_the_queues_that_its_tasks_name() -> None:
    broker = ListQueueBroker("redis://localhost", queue_name="mail")

    served = served_queues(broker, [{}, {"queue_name": "video"}])

    assert served == (queue_key(broker), queue_key(broker, {"queue_name": "video"}))


def test_a_step_that_asks_for_another_go_is_sent_to_its_own_queue() -> None:
    """`Context.requeue` writes the message of a step; the broker routes it by its labels."""
    labels = {"queue_name": "video", "priority": 3, "tenant": "a"}
    message = step_message(Address("run", 1, 0), "run:1", "encode", labels, [1], {})

    sent = message.model_dump()

    assert sent["task_name"] == "taskiq_flow:step"
    assert sent["args"] == [[["run", 1, 0]]]
    assert sent["labels"] == {
        "queue_name": "video",
        "priority": 3,
        "ack_type": "manual",
        "flow_task": "encode",
    }
