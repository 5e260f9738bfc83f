"""What the dashboard answers while its store is away: what to do, and where to go on then."""

from httpx import ASGITransport, AsyncClient

from taskiq_flow.dashboard import create_app
from taskiq_flow.operations import Operations
from taskiq_flow.security import Security
from tools.servers import RedisServer

KEY = "operator-key-01"


async def test_a_page_is_tried_again_and_after_an_act_the_one_that_asked(
    own_redis: RedisServer,
) -> None:
    async with await Operations.open(own_redis.url) as operations:
        keys = {KEY: {"name": "otto", "role": "operator"}}
        app = create_app(operations, security=Security(api_keys=keys))
        own_redis.stop()
        async with AsyncClient(
            transport=ASGITransport(app), base_url="http://here", headers={"x-api-key": KEY}
        ) as client:
            page = await client.get("/runs/some?step=one")
            act = await client.post("/runs/some/cancel")

    assert (page.status_code, act.status_code) == (503, 503)
    assert 'data-again="/runs/some?step=one"' in page.text
    assert 'data-again=""' in act.text
    assert "nothing was changed. What to do: check that it runs" in act.text
