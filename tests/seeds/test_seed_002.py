"""Every block of the result backend reference runs as written.

``taskiq.result_backends`` and ``taskiq.depends.progress_tracker`` stand for our modules of these
names. The blocks lack imports (``asyncio``, ``AsyncResultBackend``, ``TaskiqResult``,
``ResultGetError``), which are names here; ``aiofiles``, which nothing of ours needs, is played by
three methods. Of the block with other packages' backends only Redis is run.
"""

import asyncio
import inspect
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from taskiq import AsyncTaskiqTask, InMemoryBroker, TaskiqResult
from taskiq.exceptions import TaskiqError

from taskiq_flow import result_backends
from taskiq_flow.progress import TaskProgress
from taskiq_flow.result_backends import (
    AsyncResultBackend,
    DummyResultBackend,
    InmemoryResultBackend,
    ResultGetError,
    ResultIsReadyError,
)
from tests.seeds.guide import HERE, Guide

OUR_BACKENDS = {"from taskiq.result_backends": "from taskiq_flow.result_backends"}
OUR_PROGRESS = {"from taskiq.depends.progress_tracker": "from taskiq_flow.progress"}


# The text has also lost the line breaks between its blocks.
SEAM = re.compile(r"""(?<=[")}])(?=(?:from|import|class|#) )""")


@pytest.fixture
async def guide(tmp_path: Path) -> AsyncIterator[Guide]:
    text = (HERE / "seed-002-result-backends.txt").read_text(encoding="utf-8")
    blocks = tmp_path / "blocks.txt"
    blocks.write_text(SEAM.sub("\n", text), encoding="utf-8")
    guide = Guide(str(blocks), __name__, asyncio=asyncio)
    yield guide
    broker = guide.names.get("broker")
    if broker is not None:
        await broker.shutdown()


OUTLINES = {
    "AsyncResultBackend": """
        startup() shutdown() set_result(task_id,result) get_result(task_id,with_logs)
        is_result_ready(task_id) delete_result(task_id) get_progress(task_id)
        set_progress(task_id,progress)
    """,
    "DummyResultBackend": """
        set_result(task_id,result) get_result(task_id,with_logs)
        is_result_ready(task_id) delete_result(task_id)
    """,
    "InmemoryResultBackend": """
        __init__(max_stored_results) set_result(task_id,result) get_result(task_id,with_logs)
        is_result_ready(task_id) delete_result(task_id)
    """,
}


@pytest.mark.parametrize("name", OUTLINES)
def test_the_outlined_classes_have_their_methods_and_parameters(name: str) -> None:
    cls = getattr(result_backends, name)

    for outlined in OUTLINES[name].split():
        method, parameters = outlined.rstrip(")").split("(")
        wanted = [parameter for parameter in parameters.split(",") if parameter]
        assert list(inspect.signature(getattr(cls, method)).parameters)[1:] == wanted, method
    assert issubclass(cls, AsyncResultBackend)


async def test_the_dummy_keeps_nothing_and_says_so() -> None:
    backend = DummyResultBackend()
    await backend.set_result("a", TaskiqResult(is_err=False, return_value=1, execution_time=0))

    assert await backend.is_result_ready("a") is False
    with pytest.raises(ResultGetError, match="no result of task 'a'"):
        await backend.get_result("a")
    await backend.delete_result("a")


def test_memory_keeps_a_hundred_results_unless_told_otherwise() -> None:
    assert InmemoryResultBackend().max_stored_results == 100


def test_progress_has_the_outlined_defaults_and_becomes_a_dict_and_back() -> None:
    progress = TaskProgress()

    assert progress.to_dict() == {
        "progress": 0.0, "status": "PENDING", "current": None, "total": None, "meta": {},
    }  # fmt: skip
    given = TaskProgress(0.5, "half", 1, 2, {"dataset": "a"})
    assert TaskProgress.from_dict(given.to_dict()) == given


def test_the_outlined_errors_are_errors_of_taskiq() -> None:
    assert issubclass(ResultGetError, TaskiqError)
    assert issubclass(ResultIsReadyError, TaskiqError)


async def test_a_broker_keeps_results_in_memory(
    guide: Guide, capsys: pytest.CaptureFixture[str]
) -> None:
    await guide.run(
        """
        from taskiq import InMemoryBroker
        from taskiq.result_backends import InmemoryResultBackend
        # Create broker with custom result backend
        result_backend = InmemoryResultBackend(max_stored_results=500)
        broker = InMemoryBroker().with_result_backend(result_backend)
        @broker.task
        async def compute_fibonacci(n: int) -> int:
            \"\"\"Compute fibonacci number.\"\"\"
            if n <= 1:
                return n
            return await compute_fibonacci(n-1) + await compute_fibonacci(n-2)
        async def main():
            await broker.startup()
            # Execute task and store result
            result = await compute_fibonacci.kiq(10)
            # Result is automatically stored in backend
            value = await result.wait_result()
            print(f"Fibonacci(10) = {value}")
            await broker.shutdown()
        """,
        OUR_BACKENDS,
    )

    await guide["main"]()

    assert "return_value=55" in capsys.readouterr().out
    assert len(guide["result_backend"].results) == 1


async def test_a_task_says_how_far_it_is(guide: Guide, capsys: pytest.CaptureFixture[str]) -> None:
    """The loop of the client asks every two seconds; here its pause is a turn of the loop."""
    go = asyncio.Event()

    async def load_dataset(path: str) -> list[dict[str, int]]:
        return [{"id": number} for number in range(25)]

    async def process_item(item: dict[str, int]) -> int:
        if item["id"] == 20:
            await go.wait()
        return item["id"]

    broker = InMemoryBroker().with_result_backend(InmemoryResultBackend())
    await guide.run(
        """
        from taskiq import Context, TaskiqDepends
        from taskiq.depends.progress_tracker import TaskProgress
        @broker.task
        async def process_large_dataset(
            dataset_path: str,
            context: Context = TaskiqDepends(),
        ) -> dict:
            \"\"\"Process large dataset with progress tracking.\"\"\"
            # Load dataset
            items = await load_dataset(dataset_path)
            total_items = len(items)
            processed = 0
            # Initialize progress
            progress = TaskProgress(
                progress=0.0,
                status="Starting processing",
                current=0,
                total=total_items,
                meta={"dataset": dataset_path}
            )
            await broker.result_backend.set_progress(
                context.message.task_id,
                progress
            )
            results = []
            for i, item in enumerate(items):
                # Process item
                result = await process_item(item)
                results.append(result)
                processed += 1
                # Update progress every 10 items
                if processed % 10 == 0:
                    progress = TaskProgress(
                        progress=processed / total_items,
                        status=f"Processed {processed}/{total_items} items",
                        current=processed,
                        total=total_items,
                        meta={"last_processed": item["id"]}
                    )
                    await broker.result_backend.set_progress(
                        context.message.task_id,
                        progress
                    )
            # Final progress update
            progress = TaskProgress(
                progress=1.0,
                status="Processing complete",
                current=total_items,
                total=total_items,
                meta={"total_processed": len(results)}
            )
            await broker.result_backend.set_progress(
                context.message.task_id,
                progress
            )
            return {"processed_count": len(results), "results": results}
        # Check progress from client
        async def check_task_progress(task_result):
            task_id = task_result.task_id
            while not await task_result.is_ready():
                progress = await broker.result_backend.get_progress(task_id)
                if progress:
                    print(f"Status: {progress.status}")
                    print(f"Progress: {progress.progress * 100:.1f}%")
                    if progress.current and progress.total:
                        print(f"Items: {progress.current}/{progress.total}")
                await asyncio.sleep(2)
            final_result = await task_result.wait_result()
            print(f"Task completed: {final_result}")
        """,
        OUR_PROGRESS,
        broker=broker,
        load_dataset=load_dataset,
        process_item=process_item,
        asyncio=_Asyncio(go),
    )

    task = await guide["process_large_dataset"].kiq("a.csv")
    await guide["check_task_progress"](task)

    printed = capsys.readouterr().out
    assert "Status: Processed 20/25 items\nProgress: 80.0%\nItems: 20/25\n" in printed
    assert "'processed_count': 25" in printed
    last = await broker.result_backend.get_progress(task.task_id)
    assert last == TaskProgress(1.0, "Processing complete", 25, 25, {"total_processed": 25})


class _Asyncio:
    """Stands for the module: its pause is short, and lets the task go on after some of them."""

    def __init__(self, go: asyncio.Event) -> None:
        self._go, self._left = go, 50

    async def sleep(self, _seconds: float) -> None:
        await asyncio.sleep(0)
        self._left -= 1
        if not self._left:
            self._go.set()


async def test_users_write_backends_of_their_own(
    guide: Guide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aiofiles", _aiofiles())
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {
        "InMemoryBroker": InMemoryBroker,
        "AsyncResultBackend": AsyncResultBackend,
        "TaskiqResult": TaskiqResult,
        "ResultGetError": ResultGetError,
    }
    await guide.run(
        """
        import json
        import aiofiles
        from pathlib import Path
        class FileResultBackend(AsyncResultBackend):
            \"\"\"Custom file-based result backend.\"\"\"
            def __init__(self, storage_dir: str = "./task_results"):
                self.storage_dir = Path(storage_dir)
                self.storage_dir.mkdir(exist_ok=True)
            def _get_result_path(self, task_id: str) -> Path:
                return self.storage_dir / f"{task_id}.json"
            def _get_progress_path(self, task_id: str) -> Path:
                return self.storage_dir / f"{task_id}_progress.json"
            async def set_result(
                self,
                task_id: str,
                result: TaskiqResult,
            ) -> None:
                \"\"\"Store result as JSON file.\"\"\"
                result_data = {
                    "is_err": result.is_err,
                    "return_value": result.return_value,
                    "execution_time": result.execution_time,
                    "labels": result.labels,
                    "error": str(result.error) if result.error else None,
                }
                result_path = self._get_result_path(task_id)
                async with aiofiles.open(result_path, 'w') as f:
                    await f.write(json.dumps(result_data, default=str))
            async def get_result(
                self,
                task_id: str,
                with_logs: bool = True,
            ) -> TaskiqResult:
                \"\"\"Load result from JSON file.\"\"\"
                result_path = self._get_result_path(task_id)
                if not result_path.exists():
                    raise ResultGetError(f"Result not found for task {task_id}")
                async with aiofiles.open(result_path, 'r') as f:
                    data = json.loads(await f.read())
                # Reconstruct TaskiqResult
                result = TaskiqResult(
                    is_err=data["is_err"],
                    return_value=data["return_value"],
                    execution_time=data["execution_time"],
                    labels=data["labels"],
                )
                if data["error"]:
                    result.error = Exception(data["error"])
                return result
            async def is_result_ready(self, task_id: str) -> bool:
                \"\"\"Check if result file exists.\"\"\"
                return self._get_result_path(task_id).exists()
            async def delete_result(self, task_id: str) -> None:
                \"\"\"Delete result and progress files.\"\"\"
                result_path = self._get_result_path(task_id)
                progress_path = self._get_progress_path(task_id)
                if result_path.exists():
                    result_path.unlink()
                if progress_path.exists():
                    progress_path.unlink()
        # Use custom backend
        custom_backend = FileResultBackend("./my_results")
        broker = InMemoryBroker().with_result_backend(custom_backend)
        """,
        **names,
    )
    broker, backend = guide["broker"], guide["custom_backend"]
    double = broker.register_task(_double, task_name="double")
    fails = broker.register_task(_fails, task_name="fails")

    good, bad = await double.kiq(21), await fails.kiq()

    assert (await good.wait_result(check_interval=0.01)).return_value == 42
    failed = await bad.wait_result(check_interval=0.01)
    assert (failed.is_err, str(failed.error)) == (True, "no such luck")
    assert (tmp_path / "my_results" / f"{good.task_id}.json").exists()
    await backend.delete_result(good.task_id)
    assert not await good.is_ready()
    with pytest.raises(ResultGetError, match="Result not found for task"):
        await backend.get_result(good.task_id)
    assert await backend.get_progress(good.task_id) is None, "what it does not define is inherited"


async def _double(number: int) -> int:
    return 2 * number


async def _fails() -> None:
    raise ValueError("no such luck")


def _aiofiles() -> ModuleType:
    class Opened:
        def __init__(self, path: Path, mode: str) -> None:
            self._file = path.open(mode)

        async def __aenter__(self) -> "Opened":
            return self

        async def __aexit__(self, *_exc: object) -> None:
            self._file.close()

        async def read(self) -> str:
            return self._file.read()

        async def write(self, text: str) -> None:
            self._file.write(text)

    module = ModuleType("aiofiles")
    module.open = Opened  # type: ignore[attr-defined]
    return module


async def test_a_broker_keeps_results_in_redis(guide: Guide, redis_url: str) -> None:
    await guide.run(
        """
        # Example configuration for external result backends
        # (These would be separate packages like taskiq-redis, taskiq-postgres)
        # Redis result backend
        from taskiq_redis import RedisResultBackend
        redis_backend = RedisResultBackend("redis://localhost:6379/0")
        """,
        {
            "from taskiq_redis": "from taskiq_flow.result_backends",
            "redis://localhost:6379/0": redis_url,
        },
    )
    backend = guide["redis_backend"]
    broker = InMemoryBroker().with_result_backend(backend)
    double = broker.register_task(_double, task_name="double")

    task: AsyncTaskiqTask[Any] = await double.kiq(21)

    assert (await task.wait_result(check_interval=0.01)).return_value == 42
    await backend.delete_result(task.task_id)
    assert not await task.is_ready()
    await broker.shutdown()
