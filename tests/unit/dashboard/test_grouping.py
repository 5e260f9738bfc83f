import itertools
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from taskiq_flow.dashboard.pictures.grouping import SHOWN_MOST, Grouped, Part, group
from taskiq_flow.visualization.levels import put_in_order


def fan(count: int) -> tuple[dict[str, str], list[tuple[str, str]]]:
    names = [f"work{number}" for number in range(count)]
    kinds = {"split": "split", **dict.fromkeys(names, "work"), "join": "join"}
    return kinds, [edge for name in names for edge in (("split", name), (name, "join"))]


def stands_for(grouped: Grouped) -> list[str]:
    return sorted(step for part in grouped.parts for step in part.steps)


def test_a_graph_of_few_nodes_is_shown_whole() -> None:
    kinds, edges = fan(SHOWN_MOST - 2)

    grouped = group(kinds, edges)

    assert len(grouped.parts) == SHOWN_MOST
    assert not grouped.groups


def test_like_siblings_become_one_node() -> None:
    kinds, edges = fan(1_000)

    grouped = group(kinds, edges)

    assert [(part.kind, len(part.steps)) for part in grouped.parts] == [
        ("split", 1),
        ("work", 1_000),
        ("join", 1),
    ]
    assert len(grouped.edges) == 2


def test_a_long_stretch_becomes_one_node() -> None:
    names = [f"s{number}" for number in range(200)]
    edges = list(itertools.pairwise(names))

    grouped = group({name: name for name in names}, edges)

    assert [len(part.steps) for part in grouped.parts] == [200]


def test_parallel_chains_of_the_same_tasks_become_one_node_of_chains() -> None:
    kinds = {f"{kind}{n}": kind for n in range(100) for kind in "abc"}
    edges = [(f"{one}{n}", f"{two}{n}") for n in range(100) for one, two in ("ab", "bc")]

    grouped = group(kinds, edges)

    assert [len(part.steps) for part in grouped.parts] == [300]
    assert len(grouped.parts[0].parts) == 100


def test_a_group_opens_where_a_reader_asked_for_it_and_only_there() -> None:
    kinds, edges = fan(100)
    closed = group(kinds, edges, wanted=frozenset())
    key = next(iter(closed.groups))

    opened = group(kinds, edges, wanted=frozenset({key, "of an older plan"}))

    assert len(opened.parts) == 102
    assert opened.opened == {key}
    assert opened.home["work7"] == (key,)


def test_what_is_worth_a_look_opens_by_itself_as_long_as_few_are_shown() -> None:
    kinds, edges = fan(1_000)
    few_kinds = {f"{kind}{n}": kind for n in range(25) for kind in "abc"}
    few_edges = [(f"{one}0", f"{two}{n}") for n in range(25) for one, two in ("ab", "bc")]

    def worth(part: Part) -> int:
        return int("b3" in part.steps or "work1" in part.steps)

    assert not group(kinds, edges, worth=worth).opened
    opened = group(few_kinds, few_edges, worth=worth)
    assert any(part.key == "b3" for part in opened.parts)
    assert len(opened.parts) <= SHOWN_MOST


@settings(max_examples=30)
@given(
    edges=st.lists(st.tuples(st.integers(0, 119), st.integers(0, 119)), max_size=400),
    kinds=st.lists(st.sampled_from("abc"), min_size=120, max_size=120),
)
def test_every_step_stands_in_one_place_and_no_circle_is_made(
    edges: list[tuple[int, int]], kinds: list[str]
) -> None:
    pairs = [(f"s{a}", f"s{b}") for a, b in edges if a < b]
    grouped = group({f"s{n}": kind for n, kind in enumerate(kinds)}, pairs)

    assert stands_for(grouped) == sorted(f"s{n}" for n in range(120))
    number = {part.key: index for index, part in enumerate(grouped.parts)}
    shown = [(number[a], number[b]) for a, b in grouped.edges]
    assert put_in_order(len(number), shown).is_complete


def test_ten_times_the_steps_cost_no_hundred_times_the_grouping() -> None:
    def seconds(count: int) -> float:
        kinds, edges = fan(count)
        spent: list[float] = []
        for _ in range(3):
            before = time.process_time()
            group(kinds, edges)
            spent.append(time.process_time() - before)
        return min(spent)

    assert seconds(2_000) < 40 * max(seconds(200), 0.001)
