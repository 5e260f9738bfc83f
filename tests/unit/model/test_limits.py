"""A limit is never exceeded, never lost, and taken whole or not at all."""

from hypothesis import given
from hypothesis import strategies as st

from taskiq_flow.model.limits import (
    LONGEST_SLEEP_SECONDS,
    LOOKS_PER_SECOND,
    LOOKS_PER_START,
    RECHECK_SECONDS,
    LimitBook,
)
from taskiq_flow.model.records import Address, Limit

LEASE = 10.0
TWO = (Limit("two", most=2),)


def who(number: int) -> Address:
    return Address("run", number, 0)


def take(
    book: LimitBook, limits: tuple[Limit, ...], number: int = 0, now: float = 0.0
) -> float | None:
    return book.take(limits, who(number), now, LEASE)


def test_as_many_hold_a_limit_as_it_allows() -> None:
    book = LimitBook()

    answers = [take(book, TWO, i) for i in range(3)]

    assert answers == [None, None, RECHECK_SECONDS]


def test_limits_of_other_keys_do_not_count() -> None:
    book = LimitBook()

    assert take(book, (Limit("a", most=1),), 1) is None
    assert take(book, (Limit("b", most=1),), 2) is None


def test_who_leaves_wakes_who_waited_longest() -> None:
    book = LimitBook()
    for number in range(4):
        take(book, TWO, number)

    assert book.leave(TWO, who(0)) == [who(2)]
    assert book.leave(TWO, who(0)) == []
    assert book.leave(TWO, who(1)) == [who(3)]


def test_who_leaves_wakes_the_highest_priority_first() -> None:
    book = LimitBook()
    for number, priority in enumerate((0, 0, 0, 9, -1, 9, 0)):
        limit = Limit("two", most=2, priority=priority)
        book.take((limit,), who(number), 0.0, LEASE)
    assert [*book.waiting["two"]] == [who(number) for number in (3, 5, 2, 6, 4)]
    book.leave(TWO, who(0))
    book.take(TWO, who(6), 0.0, LEASE)

    assert book.leave(TWO, who(1)) == [who(5)]
    assert book.leave(TWO, who(6)) == [who(2)]


def test_who_asks_again_waits_in_its_old_place_and_only_once() -> None:
    book = LimitBook()
    for number in (0, 1, 2, 3, 2, 3, 2):
        take(book, TWO, number)

    assert book.leave(TWO, who(0)) == [who(2)]
    take(book, TWO, 2)
    assert book.leave(TWO, who(1)) == [who(3)]
    assert book.leave(TWO, who(2)) == []


def test_who_got_in_no_longer_waits() -> None:
    book = LimitBook()
    for number in range(3):
        take(book, TWO, number)
    book.leave(TWO, who(0))
    take(book, TWO, 2)

    assert book.leave(TWO, who(1)) == []


def test_a_hold_ends_with_its_lease_unless_it_is_extended() -> None:
    book = LimitBook()
    dead, alive, early, following, late = range(5)
    take(book, TWO, dead, now=0.0)
    take(book, TWO, alive, now=0.0)
    book.extend(TWO, who(alive), until=20.0)

    assert take(book, TWO, early, now=LEASE - 0.1) is not None
    assert take(book, TWO, following, now=LEASE) is None
    assert take(book, TWO, late, now=LEASE) is not None


def test_extending_what_is_not_held_takes_nothing() -> None:
    book = LimitBook()

    book.extend(TWO, who(9), until=100.0)

    assert [take(book, TWO, i) for i in range(2)] == [None, None]


def test_of_several_limits_none_is_held_when_one_is_used_up() -> None:
    book = LimitBook()
    one, other = Limit("one", most=1), Limit("other", most=1)
    take(book, (other,))

    assert take(book, (one, other), 1) is not None
    assert take(book, (one,), 2) is None


def test_a_rate_lets_its_burst_go_and_then_one_at_a_time() -> None:
    book = LimitBook()
    rate = (Limit("rate", per_second=2.0, burst=3),)

    assert [take(book, rate) for _ in range(4)] == [None, None, None, 0.5]
    assert take(book, rate, now=0.5) is None
    assert take(book, rate, now=0.5) == 1.0


def test_a_rate_does_not_save_more_than_its_burst() -> None:
    book = LimitBook()
    rate = (Limit("rate", per_second=2.0, burst=2),)
    take(book, rate)

    answers = [take(book, rate, now=1000.0) for _ in range(3)]

    assert answers == [None, None, 1000.5]


def test_of_several_limits_the_latest_says_when_to_look_again() -> None:
    book = LimitBook()
    both = (Limit("one", most=1), Limit("rate", per_second=0.25))
    take(book, both)

    assert take(book, both, 1) == 4.0


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["take", "leave", "wait"]))))
def test_no_order_of_takes_and_leaves_exceeds_a_limit(moves: list[tuple[int, str]]) -> None:
    book, now = LimitBook(), 0.0
    holders: dict[int, float] = {}

    for number, move in moves:
        if move == "wait":
            now += 3.0
            holders = {held: until for held, until in holders.items() if until > now}
        elif move == "leave":
            book.leave(TWO, who(number))
            holders.pop(number, None)
        elif number not in holders:
            granted = take(book, TWO, number, now) is None
            assert granted is (len(holders) < 2)
            if granted:
                holders[number] = now + LEASE


def test_the_more_wait_for_a_place_the_longer_each_sleeps() -> None:
    book = LimitBook()
    sleeps = [take(book, TWO, number) for number in range(5_000)]

    assert sleeps[2] == RECHECK_SECONDS
    assert sleeps[1_002] == 1_000 / LOOKS_PER_SECOND
    assert sleeps[-1] == LONGEST_SLEEP_SECONDS


def test_those_behind_a_rate_look_one_after_another() -> None:
    book, rate = LimitBook(), (Limit("rate", per_second=2.0),)
    assert take(book, rate, now=100.0) is None

    looks = [take(book, rate, number, now=100.0) for number in range(1_000)]

    apart = 1 / (2.0 * LOOKS_PER_START)
    assert looks[:3] == [100.5, 100.5 + apart, 100.5 + 2 * apart]
    assert looks[-1] == 100.0 + LONGEST_SLEEP_SECONDS
    assert take(book, rate, 5_000, now=100.5) is None


def test_nobody_sleeps_past_the_next_start_of_a_slow_rate_for_the_crowd() -> None:
    book, rate = LimitBook(), (Limit("rate", per_second=0.01),)
    take(book, rate)

    assert [take(book, rate, n) for n in range(3)] == [100.0] * 3
