"""What every run store promises of progress and log lines."""

from __future__ import annotations

from taskiq_flow.testing.store_bench import (
    StoreBench,
    step,
)


class NoteContract:
    """What steps leave while they run."""

    async def test_progress_is_replaced(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))
        await run.start("a")

        await bench.store.note_progress(run.run_id, 0, b"10%")
        await bench.store.note_progress(run.run_id, 0, b"\x0020%")

        assert (await run.step("a")).progress == b"\x0020%"

    async def test_notes_of_an_unknown_run_are_dropped(self, bench: StoreBench) -> None:
        await bench.store.note_progress("no-such-run", 0, b"10%")
        await bench.store.append_log("no-such-run", [b"line"])

        assert await bench.store.get("no-such-run") is None
        assert (await bench.store.log("no-such-run"))[0] == []

    async def test_log_lines_are_read_from_a_position_on(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))
        lines = [f"line {i}".encode() for i in range(5)]
        await bench.store.append_log(run.run_id, lines[:2])
        await bench.store.append_log(run.run_id, [])
        await bench.store.append_log(run.run_id, lines[2:])

        first, position = await bench.store.log(run.run_id, limit=3)
        rest, end = await bench.store.log(run.run_id, after=position)

        assert (first, rest) == (lines[:3], lines[3:])
        assert await bench.store.log(run.run_id, after=end) == ([], end)

    async def test_the_oldest_log_lines_go_and_positions_stay(self, bench: StoreBench) -> None:
        run = await bench.create(step("a"))
        total = 11_000
        for start in range(0, total, 1000):
            lines = [f"{i}".encode() for i in range(start, start + 1000)]
            await bench.store.append_log(run.run_id, lines)

        found, end = await bench.store.log(run.run_id, limit=total)

        assert len(found) < total
        assert found == [f"{i}".encode() for i in range(total - len(found), total)]
        assert end == total
        assert (await bench.store.log(run.run_id, after=total - 1)) == ([b"10999"], total)
