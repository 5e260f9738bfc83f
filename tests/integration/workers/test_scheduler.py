"""A scheduler that is killed and started again misses no tick, and its runs go to workers."""

from taskiq_flow import Pipeline, PipelineScheduler
from tests.integration.workers.conftest import MakeApp
from tests.integration.workers.harness import eventually

EVERY_SECONDS = 0.4


async def test_ticks_go_on_after_the_scheduler_was_killed(make_app: MakeApp) -> None:
    app = make_app()
    app.spawn_script("ticking")
    await app.start()

    async with app.client() as client:
        operator = PipelineScheduler(client.broker)
        job = await operator.schedule_interval(
            Pipeline(client.broker, client["add_noted"]),
            seconds=EVERY_SECONDS,
            args=[1],
            overlap="allow",
            catch_up="all",
        )

        async def has_fired(many: int) -> bool:
            return (await operator.get_job(job)).fired >= many

        await eventually(lambda: has_fired(2), seconds=120)
        app.scripts["ticking"].kill()
        app.scripts["ticking"].communicate()
        before = (await operator.get_job(job)).fired
        app.spawn_script("ticking")
        await eventually(lambda: has_fired(before + 4), seconds=120)
        await operator.pause_job(job)
        await eventually(lambda: len(app.journal.notes("add_noted")) >= before + 4, seconds=120)

        async def all_have_run() -> bool:
            shown = await operator.get_job(job)
            return len(app.journal.notes("add_noted")) == shown.fired

        await eventually(all_have_run, seconds=120)
        shown = await operator.get_job(job)
        await operator.shutdown()

    assert shown.last_tick is not None
    ticks = (shown.last_tick - shown.created_at).total_seconds() / EVERY_SECONDS
    assert (shown.fired, shown.skipped, shown.missed) == (round(ticks), 0, 0)
