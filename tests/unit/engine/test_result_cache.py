"""Who may compute a result that is kept for all."""

from taskiq_flow.engine.result_cache import Claim, Hit, Question, ResultCache, Wait
from taskiq_flow.stores.base import StoreOptions
from taskiq_flow.stores.memory import MemoryRunStore

QUESTION = Question(key="key", task="task", ttl=None, now=0.0, waited=0.0)


class LateStore(MemoryRunStore):
    """Another process is quick: all that it does falls between a look and what follows from it."""

    late = True

    async def find(self, key: str) -> str | None:
        found = None if self.late else await super().find(key)
        self.late = False
        return found


async def test_who_looked_before_a_result_was_kept_does_not_compute_it_again() -> None:
    store = MemoryRunStore(StoreOptions())
    late = LateStore(store.options, _shared=store._data)
    quick, slow = ResultCache(store), ResultCache(late)

    claim = await quick.ask(QUESTION)
    assert isinstance(claim, Claim)
    await quick.keep(claim, b"1")
    first, second = await slow.ask(QUESTION), await slow.ask(QUESTION)
    await quick.close()
    await slow.close()

    assert isinstance(first, Wait)
    assert second == Hit(b"1")
