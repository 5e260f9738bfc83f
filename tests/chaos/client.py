"""Starts pipelines, and writes down each one whose ``kiq`` has returned: those must end."""

import asyncio
import sys
from pathlib import Path

from tests.chaos import app


async def main(first: int, last: int, started: Path) -> None:
    await app.broker.startup()
    with started.open("a", buffering=1) as file:
        for number in range(first, last):
            run_id, expected = await app.start(number)
            file.write(f"{number}\t{run_id}\t{expected}\n")
    await app.broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
