"""A FastAPI application with background tasks; each writes down that it ran."""

import asyncio
import os
from pathlib import Path

from fastapi import BackgroundTasks, FastAPI
from starlette.types import Message, Receive, Scope, Send

from fastapi_taskflow import TaskManager

JOURNAL = Path(os.environ["JOURNAL"])
BUSY = int(os.environ.get("BUSY", "0"))
"""So few may run at once, unless it is 0: most of them wait when a server is killed."""

manager = TaskManager(
    snapshot_db=os.environ["TASKS"],
    shutdown_timeout=0.5,
    max_process_workers=1,
    max_concurrent_tasks=BUSY or None,
)
app = FastAPI()
manager.install(app)


def write(line: str) -> None:
    """Add a line in one write, so that lines of several processes do not mix."""
    with JOURNAL.open("ab", buffering=0) as journal:
        journal.write(f"{line}\n".encode())


@manager.task(requeue_on_interrupt=True)
async def note(number: int) -> None:
    write(f"begin {number}")
    await asyncio.sleep(0.1 if BUSY else 0.01)


@manager.task()
async def note_once(number: int) -> None:
    write(f"begin {number}")
    await asyncio.sleep(0.1)


@manager.task()
async def once(number: int) -> None:
    write(f"once {number}")
    await asyncio.sleep(60)


@manager.task(executor="process")
def square(number: int) -> int:
    write(f"square {number} {os.getpid()}")
    return number * number


@app.post("/note/{number}")
async def add_note(number: int, tasks: BackgroundTasks) -> str:
    return tasks.add_task(note, number)  # type: ignore[func-returns-value]


@app.post("/note_once/{number}")
async def add_note_once(number: int, tasks: BackgroundTasks) -> str:
    return tasks.add_task(note_once, number)  # type: ignore[func-returns-value]


@app.post("/once/{number}")
def add_once(number: int, tasks: BackgroundTasks) -> str:
    return tasks.add_task(once, number)  # type: ignore[func-returns-value]


@app.get("/nothing")
async def nothing() -> str:
    return "nothing"


@app.post("/square/{number}")
async def add_square(number: int, tasks: BackgroundTasks) -> str:
    return tasks.add_task(square, number)  # type: ignore[func-returns-value]


@app.get("/task/{task_id}")
async def show(task_id: str) -> dict[str, object]:
    record = await manager.store.aget(task_id)
    return {} if record is None else record.to_dict()


@app.post("/cancel/{task_id}")
async def cancel(task_id: str) -> str:
    return (await manager.cancel(task_id)).status


async def served(scope: Scope, receive: Receive, send: Send) -> None:
    """The application; writes down when it answers that it has added a task to be run once."""

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start" and scope["path"].startswith("/note_once/"):
            write(f"answer {scope['path'].removeprefix('/note_once/')}")
        await send(message)

    await app(scope, receive, answer)
