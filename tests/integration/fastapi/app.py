"""A FastAPI application with background tasks; each writes down that it ran."""

import asyncio
import os
import time

from fastapi import BackgroundTasks, FastAPI
from starlette.types import Message, Receive, Scope, Send

from fastapi_taskflow import TaskManager

JOURNAL = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
BUSY = int(os.environ.get("BUSY", "0"))
"""So few may run at once, and as many in threads, unless it is 0: most of them wait then."""

manager = TaskManager(
    snapshot_db=os.environ["TASKS"],
    shutdown_timeout=0.5,
    max_process_workers=1,
    max_concurrent_tasks=BUSY or None,
    max_sync_threads=BUSY or None,
)
app = FastAPI()
manager.install(app)


def write(line: str) -> None:
    """Add a line in one write, so that lines of several processes do not mix."""
    os.write(JOURNAL, f"{line}\n".encode())


@manager.task(requeue_on_interrupt=True)
async def note(number: int) -> None:
    write(f"begin {number}")
    await asyncio.sleep(0.1 if BUSY else 0.01)


@manager.task()
async def note_once(number: int) -> None:
    write(f"begin {number}")
    await asyncio.sleep(0.1)


@manager.task()
def note_once_in_thread(number: int) -> None:
    write(f"begin {number}")
    time.sleep(0.1)


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


def runs_in_thread(number: int) -> bool:
    return number % 3 == 0


@app.post("/note_once/{number}")
async def add_note_once(number: int, tasks: BackgroundTasks) -> str:
    task = note_once_in_thread if runs_in_thread(number) else note_once
    return tasks.add_task(task, number)  # type: ignore[func-returns-value]


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
    """The application; writes down when it answers that it has added a task to be run once.

    Of those in threads it cannot be told what came first: they write beside the event loop.
    """
    _, _, number = scope.get("path", "").partition("/note_once/")

    async def answer(message: Message) -> None:
        starts = message["type"] == "http.response.start"
        if starts and number and not runs_in_thread(int(number)):
            write(f"answer {number}")
        await send(message)

    await app(scope, receive, answer)
