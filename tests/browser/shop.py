"""A shop whose runs fill the pages of the dashboard: for its tests, and for its pictures."""

import asyncio
import os
import random

from taskiq_redis import ListQueueBroker

from taskiq_flow import (
    AbortPipeline,
    DataflowPipeline,
    Pipeline,
    PipelineContext,
    PipelineMiddleware,
    pipeline_task,
)

PACE = float(os.environ.get("SHOP_PACE", "0.01"))
"""How long a shop's step takes, in a unit of its own: 0.01 for tests, 1 for a picture."""
ITEMS = int(os.environ.get("SHOP_ITEMS", "60"))

broker = ListQueueBroker(
    os.environ.get("SHOP_REDIS_URL", "redis://localhost"),
    queue_name=os.environ.get("SHOP_QUEUE", "shop"),
)
broker.add_middlewares(PipelineMiddleware())


@broker.task(task_name="shop:fetch_feeds")
@pipeline_task(output="feeds")
async def fetch_feeds(shop: str, context: PipelineContext) -> list[str]:
    context.logger.info("3 feeds of shop=%s", shop)
    await asyncio.sleep(PACE)
    return [f"{shop}-{number}" for number in range(3)]


@broker.task(task_name="shop:validate_schema")
@pipeline_task(output="products")
async def validate_schema(feeds: list[str]) -> list[int]:
    await asyncio.sleep(PACE / 2)
    return list(range(ITEMS))


@broker.task(task_name="shop:fetch_fx_rates")
@pipeline_task(output="fx_rates")
async def fetch_fx_rates(feeds: list[str]) -> dict[str, float]:
    await asyncio.sleep(PACE / 3)
    return {"EUR": 1.0, "USD": 1.0841, "GBP": 0.8377}


@broker.task(task_name="shop:render_thumbnails")
@pipeline_task(output="thumbnails", retries=2, retry_delay=PACE)
async def render_thumbnails(products: list[int], context: PipelineContext) -> int:
    await asyncio.sleep(PACE * 2)
    context.logger.warning("image DE-40418.webp is broken, try %d", context.attempt)
    raise OSError("cannot identify image file 'DE-40418.webp'")


@broker.task(task_name="shop:enrich_product")
async def enrich_product(product: int, context: PipelineContext) -> dict[str, object]:
    await asyncio.sleep(PACE / 8 * random.uniform(0.5, 1.5))
    if product % 25 == 0:
        context.logger.info("enriched sku=DE-%d in %.1f s", 40_000 + product, PACE / 8)
    if product % 97 == 96:
        context.logger.error("VendorTimeout: no answer in 5.0 s sku=DE-%d", 40_000 + product)
        raise TimeoutError(f"vendor did not answer for DE-{40_000 + product}")
    return {"sku": f"DE-{40_000 + product}", "title": "Kettle 1.7 l", "price": 34.9}


@broker.task(task_name="shop:sync_warehouse")
@pipeline_task(output="warehouse", retries=4, retry_delay=PACE * 8, retry_backoff=1.0)
async def sync_warehouse(fx_rates: dict[str, float], context: PipelineContext) -> str:
    await asyncio.sleep(PACE * 3)
    if context.attempt < 5:
        raise ConnectionError("warehouse.internal:8443 refused")
    return "in sync"


@broker.task(task_name="shop:publish_gallery")
@pipeline_task(output="gallery")
async def publish_gallery(thumbnails: int) -> str:
    return "published"


@broker.task(task_name="shop:build_index")
@pipeline_task(output="index")
async def build_index(enriched: list[object], warehouse: str) -> int:
    await asyncio.sleep(PACE)
    return len(enriched)


@broker.task(task_name="shop:quote")
async def quote(customer: str) -> dict[str, object]:
    return {"customer": customer, "total": 129.5}


@broker.task(task_name="shop:reserve")
async def reserve(order: dict[str, object]) -> dict[str, object]:
    await asyncio.sleep(PACE)
    return {**order, "reserved": True}


@broker.task(task_name="shop:ship")
async def ship(decision: object) -> str:
    return "on its way"


@broker.task(task_name="shop:charge")
async def charge(card: str) -> str:
    if card.startswith("bad"):
        raise ValueError(f"insufficient funds on {card}")
    return f"paid by {card}"


@broker.task(task_name="shop:report")
async def report(words: str, context: PipelineContext) -> str:
    """Says whatever it is told, in its log, its error and its output."""
    context.logger.info(words)
    context.logger.error(words)
    if words.startswith("fail"):
        raise RuntimeError(words)
    return words


@broker.task(task_name="shop:wait")
async def wait(seconds: float, context: PipelineContext) -> None:
    for done in range(100):
        context.progress(done, total=100, message=f"epoch {done} of 100")
        await asyncio.sleep(seconds / 100)


@broker.task(task_name="shop:tile")
async def tile(number: int) -> int:
    """Ends its run early on: of a hundred thousand, some are done."""
    if number == 1_500:
        raise AbortPipeline("enough is seen")
    return number


def catalogue_import() -> DataflowPipeline:
    """A graph with a map, a failure, a retry and what is skipped for it."""
    pipeline = DataflowPipeline.from_tasks(
        broker,
        [fetch_feeds, validate_schema, fetch_fx_rates, render_thumbnails, sync_warehouse,
         publish_gallery],
    )  # fmt: skip
    pipeline.map(enrich_product, "products", output="enriched", max_parallel=8, skip_errors=True)
    pipeline.add_task(build_index)
    return pipeline.on_error("continue").with_name("catalogue_import")


def order_placed(customer: str = "maria") -> Pipeline:
    """A chain that waits for an approval."""
    return (
        Pipeline(broker, quote)
        .call_next(reserve)
        .wait_for("order.approved", timeout=3600)
        .call_next(ship)
        .with_name("order_placed")
    )


def charge_card() -> Pipeline:
    return Pipeline(broker, charge).with_name("charge_card")
