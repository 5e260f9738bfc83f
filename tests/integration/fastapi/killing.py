"""Tasks of servers that are killed: what was answered, what is stored and what they wrote."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi_taskflow.models import TaskStatus
from fastapi_taskflow.records import status_of
from taskiq_flow.model.records import RunStatus
from taskiq_flow.stores.base import RunStore
from tests.integration.fastapi.serving import Server, journal, post_many

LONG = os.environ.get("TASKIQ_FLOW_CHAOS") == "long"


async def until(
    holds: Callable[[], Awaitable[bool]], *, seconds: float = 60, every: float = 0.05
) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - other processes bring it about
            await asyncio.sleep(every)


@dataclass
class Tasks:
    """The tasks whose responses were received, where they are stored and what they wrote."""

    directory: Path
    store: RunStore
    answered: dict[int, str]

    async def succeeded(self) -> set[int]:
        ended = await self.store.ended_among(list(self.answered.values()))
        return {n for n, i in self.answered.items() if ended.get(i) is RunStatus.COMPLETED}

    async def have_all_succeeded(self) -> bool:
        return len(await self.succeeded()) == len(self.answered)

    async def statuses(self) -> dict[int, TaskStatus]:
        """Where each is; one that is not in the store counts as cancelled."""
        runs = {number: await self.store.get(i, steps=False) for number, i in self.answered.items()}
        return {n: TaskStatus.CANCELLED if r is None else status_of(r) for n, r in runs.items()}

    async def have_all_ended(self) -> bool:
        ended = await self.store.ended_among(list(self.answered.values()))
        return len(ended) == len(self.answered)

    def begun(self) -> Counter[int]:
        """How often each has begun."""
        lines = (line.split() for line in journal(self.directory))
        return Counter(int(number) for word, number, *_ in lines if word == "begin")

    async def kill_amid(
        self,
        numbers: range,
        servers: list[Server],
        *,
        after: int,
        task: str = "note",
        within: float = 0.05,
        how: signal.Signals = signal.SIGKILL,
    ) -> Counter[int]:
        """Add tasks through servers, and kill the first of them after so many answers.

        That is ``within`` so many seconds of the last of these answers.
        Returns how often each task that had succeeded by then had begun.
        """
        urls, enough = [server.url for server in servers], len(self.answered) + after
        sending = asyncio.create_task(post_many(urls, task, numbers, self.answered))
        await until(lambda: _are(len(self.answered) >= enough), seconds=300, every=within)
        await asyncio.to_thread(servers[0].kill, how)
        succeeded = await self.succeeded()
        begun = self.begun()
        await sending
        return Counter({number: begun[number] for number in succeeded})

    def begun_again(self, before: Counter[int]) -> set[int]:
        """The tasks that have begun since, though they had succeeded then."""
        begun = self.begun()
        return {number for number in before if begun[number] != before[number]}


async def _are(what: bool) -> bool:
    return what
