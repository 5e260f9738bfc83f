"""Steps that fail for a while: what `retrying.py` runs beside those of all applications."""

from taskiq import AsyncBroker

from tests.integration.apps.steps import _copy, journal


async def told(error: str, attempt: int) -> None:
    journal.write("told", error, attempt)


async def flaky_item(value: int) -> int:
    """Fail the first time for odd values."""
    journal.write("flaky_item", "ran", value)
    tries = [note for note in journal.notes("flaky_item", "ran") if note.key == str(value)]
    if value % 2 and len(tries) == 1:
        raise ConnectionError(f"try 1 of {value}")
    return value * 10


async def mended(value: int) -> int:
    """Fail until somebody writes into the journal that it works."""
    journal.write("mended", "ran", value)
    if not journal.notes("mended", "works"):
        raise ConnectionError("still broken")
    return value + 1


def register_retried(broker: AsyncBroker) -> None:
    for function in (told, flaky_item, mended):
        broker.register_task(_copy(function), task_name=function.__name__)
