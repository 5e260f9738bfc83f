"""What all operations of one store share: the store, its feed, what is beside it, who can send."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from taskiq import AsyncBroker
from taskiq.result_backends.dummy import DummyResultBackend

from taskiq_flow.config import TaskiqFlowConfig
from taskiq_flow.engine.hooks import Hooks
from taskiq_flow.engine.runtime import Runtime, runtimes
from taskiq_flow.engine.sender import Sender
from taskiq_flow.exceptions import OperationError
from taskiq_flow.model.records import Ready, RunSnapshot
from taskiq_flow.operations.audit import Audit
from taskiq_flow.operations.feed import FeedHub
from taskiq_flow.operations.lookup import Lookup
from taskiq_flow.operations.previews import Previewer, Redact, redact_secrets
from taskiq_flow.operations.watching import Watching
from taskiq_flow.scheduling.control import JobControl
from taskiq_flow.storage.beside import adapter_beside
from taskiq_flow.stores.base import RunStore
from taskiq_flow.stores.factory import make_store, store_options

AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class Scope:
    """One store in one process, as operations use it."""

    store: RunStore
    is_own: bool
    """Whether the store was opened here, and is closed with the operations."""

    sender: Sender | None
    runtime: Runtime | None
    """The engine of the broker in this process, where it has one."""

    publishes: bool
    config: TaskiqFlowConfig
    previewer: Previewer
    lookup: Lookup
    hub: FeedHub
    watching: Watching
    audit: Audit
    jobs: JobControl

    @classmethod
    async def open(
        cls,
        store: str | RunStore | None,
        broker: AsyncBroker | None,
        namespace: str | None,
        redact: Redact | None,
        config: TaskiqFlowConfig | None,
    ) -> Scope:
        """Find the store, open it, and put together what goes with it.

        Raises:
            OperationError: Neither a store nor a broker with one is known.
            StoreUrlError: The URL names no kind of store.
            StoreUnavailableError: It does not answer.
        """
        settings = config or TaskiqFlowConfig()
        if namespace is not None:
            settings = settings.model_copy(update={"namespace": namespace})
        runtime = None if broker is None else runtimes.get(broker)
        found = store or (settings.store_url if runtime is None else None)
        is_own = isinstance(found, str)
        if isinstance(found, str):
            opened = make_store(found, store_options(settings, sends=broker is not None))
            await opened.open()
        elif isinstance(found, RunStore):
            opened = found
            await opened.open()
        elif runtime is not None:
            await runtime.open()
            opened = runtime.store
        else:
            raise OperationError(
                "Where the runs are is not known; give the URL of their store, set "
                "TASKIQ_FLOW_STORE_URL, or pass a broker that has a PipelineMiddleware."
            )
        sender = _sender_of(broker)
        lookup, hub = Lookup(opened), FeedHub(opened)
        return cls(
            store=opened,
            is_own=is_own,
            sender=sender,
            runtime=runtime,
            publishes=broker is None or not isinstance(broker.result_backend, DummyResultBackend),
            config=settings,
            previewer=Previewer(redact or redact_secrets),
            lookup=lookup,
            hub=hub,
            watching=Watching(opened, hub, lookup),
            audit=Audit(adapter_beside(opened, purpose=AUDIT), settings.audit_keep_seconds),
            jobs=JobControl.beside(opened, None if runtime is None else broker),
        )

    async def send(self, ready: Iterable[Ready]) -> str | None:
        """Send what is ready and of this broker; of the rest say what happens instead.

        Whoever looks at a store may see runs of other brokers there, and of applications.
        """
        slots = list(ready)
        own = [] if self.sender is None else list(filter(self.sender.serves, slots))
        unsent = await self.sender.send(own) if self.sender is not None and own else ()
        return LATER if unsent or len(own) < len(slots) else None

    async def cancelled(self, run: RunSnapshot) -> None:
        """Do what the end of a cancelled run leaves to do; without an engine the workers do it."""
        if self.runtime is not None:
            await self.runtime.open()
            await self.runtime.settler.settle_cancelled(run)

    async def close(self) -> None:
        """Stop reading, and close what was opened here."""
        await self.hub.close()
        await self.audit.close()
        await self.jobs.close()
        if self.is_own:
            await self.store.close()


LATER = (
    "No message could be sent from here: the workers, or the application that it is a task of, "
    "find it when they look for what is due, within some seconds."
)


def _sender_of(broker: AsyncBroker | None) -> Sender | None:
    if broker is None:
        return None
    runtime = runtimes.get(broker)
    return Sender(broker, Hooks(broker, ())) if runtime is None else runtime.sender
