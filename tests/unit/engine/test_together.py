"""What many ask within one turn of the event loop is asked of the server once."""

import asyncio

import pytest

from taskiq_flow.engine.together import Together


class Server:
    """Remembers the calls that it gets; answers with what it was asked, or not at all."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.error: Exception | None = None

    async def ask(self, entries: list[str]) -> list[str]:
        self.calls.append(entries)
        if self.error is not None:
            raise self.error
        return entries


async def test_questions_of_one_turn_are_one_call_and_all_get_its_answer() -> None:
    server = Server()
    together = Together(server.ask)

    answers = await asyncio.gather(*[together.add([name]) for name in "abc"])

    assert server.calls == [["a", "b", "c"]]
    assert answers == [["a", "b", "c"]] * 3


async def test_a_question_that_comes_later_is_a_call_of_its_own() -> None:
    server = Server()
    together = Together(server.ask)

    await together.add(["a"])
    await together.add(["b", "c"])

    assert server.calls == [["a"], ["b", "c"]]


async def test_an_error_reaches_everybody_who_asked() -> None:
    server = Server()
    server.error = ConnectionError("away")
    together = Together(server.ask)

    found = await asyncio.gather(*[together.add([name]) for name in "ab"], return_exceptions=True)

    assert [type(error) for error in found] == [ConnectionError] * 2
    server.error = None
    assert await together.add(["c"]) == ["c"]


async def test_who_is_cancelled_takes_the_answer_from_nobody() -> None:
    together = Together(Server().ask)
    leaving, staying = (asyncio.create_task(together.add([name])) for name in "ab")
    asyncio.get_running_loop().call_soon(leaving.cancel)

    assert await staying == ["a", "b"]
    with pytest.raises(asyncio.CancelledError):
        await leaving


def test_what_a_closed_loop_left_behind_is_not_asked_in_the_next() -> None:
    server = Server()
    together = Together(server.ask)
    closed = asyncio.new_event_loop()
    left = closed.create_task(together.add(["a"]))
    closed.call_soon(closed.stop)
    closed.run_forever()
    for task in asyncio.all_tasks(closed):
        task.cancel()
    closed.run_until_complete(asyncio.gather(left, return_exceptions=True))
    closed.close()

    assert asyncio.run(together.add(["b"])) == ["b"]
