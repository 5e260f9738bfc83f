"""Take the pictures of the dashboard that the documentation shows, anew.

    python tools/servers.py --only redis -- python tools/dashboard_pictures.py [name…]

Runs of a little shop are started with a real worker on Redis, and pages are photographed by the
system's Chromium in both themes. With names, only pages of these are taken.
"""

import base64
import os
import struct
import sys
import tempfile
import time
import zlib
from pathlib import Path

from playwright.sync_api import Browser, Page

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.browser.house import TOKEN, House, browser, served
from tools.servers import variable

TARGET = Path(__file__).resolve().parent.parent / "docs" / "images" / "dashboard"
MOST_BYTES = 1_500_000
WIDE, NARROW = (1440, 900), (375, 812)

# Few colours make small files: those that are seen most, and for the others the nearest of them.
PALETTE = """async (data) => {
  const image = new Image();
  image.src = `data:image/png;base64,${data}`;
  await image.decode();
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = new Uint32Array(context.getImageData(0, 0, image.width, image.height).data.buffer);
  const counts = new Map();
  for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) ?? 0) + 1);
  const parts = (pixel) => [pixel & 255, (pixel >> 8) & 255, (pixel >> 16) & 255];
  const far = (a, b) => a.reduce((sum, part, i) => sum + (part - b[i]) ** 2, 0);
  const known = [...counts].sort((a, b) => b[1] - a[1]).map(([pixel]) => pixel);
  const chosen = known.slice(0, 96);
  for (const pixel of known.slice(96))
    if (chosen.length < 256 && chosen.every((one) => far(parts(one), parts(pixel)) > 90))
      chosen.push(pixel);
  const palette = chosen.map(parts);
  const place = new Map(chosen.map((pixel, i) => [pixel, i]));
  const out = new Uint8Array(pixels.length);
  pixels.forEach((pixel, i) => {
    let found = place.get(pixel);
    if (found === undefined) {
      let least = Infinity;
      palette.forEach((color, j) => {
        const distance = far(color, parts(pixel));
        if (distance < least) [least, found] = [distance, j];
      });
      place.set(pixel, found);
    }
    out[i] = found;
  });
  let text = "";
  for (let i = 0; i < out.length; i += 32768)
    text += String.fromCharCode(...out.subarray(i, i + 32768));
  return { width: image.width, height: image.height, palette: palette.flat(), places: btoa(text) };
}"""


def main(wanted: list[str]) -> None:
    url = os.environ[variable("redis")]
    with (
        tempfile.TemporaryDirectory() as directory,
        browser() as chromium,
        served(url, "shop", Path(directory), pace=1.0) as house,
    ):
        paths = fill(house)
        TARGET.mkdir(parents=True, exist_ok=True)
        for name, path in paths.items():
            if not wanted or name in wanted:
                for theme in ("light", "dark"):
                    take(chromium, house, name, path, theme)
    total = sum(file.stat().st_size for file in TARGET.glob("*.png"))
    print(f"{total / 1e6:.2f} MB in all")
    assert total <= MOST_BYTES, "these are too many bytes for a repository"


def fill(house: House) -> dict[str, str]:
    """Start runs of every kind; returns the pages to be shown, by name."""
    shop = house.shop
    for number in range(40):
        card = f"{'bad' if number % 6 == 5 else 'visa'}-{4000 + number}"
        tags = ("billing", "eu" if number % 2 else "us")
        house.start(shop.charge_card().with_tags(*tags), card)
    for customer in ("maria", "jo"):
        house.start(shop.order_placed().with_tags("shop=fr"), customer)
    house.start(shop.Pipeline(shop.broker, shop.report).with_name("nightly_report"), "all is well")
    train = shop.Pipeline(shop.broker, shop.wait).with_name("train_ranker").with_tags("gpu")
    house.start(train, 120)
    cancelled = house.start(train, 900)
    house.ask(house.operations.cancel(cancelled, actor="maria", reason="the wrong data"))
    dead = house.start(shop.charge_card().with_tags("billing"), "bad-4242")
    house.ended(dead)
    house.schedule(shop.order_placed(), "0 3 * * *", "jo", job_id="weekly_order")
    house.schedule(shop.charge_card(), "*/15 * * * 1-5", "visa-1", job_id="renewals")
    house.ask(house.operations.pause_schedule("renewals", actor="maria"))
    import_id = house.start(shop.catalogue_import().with_tags("nightly", "shop=de"), shop="de")
    time.sleep(9)  # so that half of it is done, and something waits to be tried again
    return {
        "run": f"/runs/{import_id}",
        "overview": "/?span=1h",
        "runs": "/runs",
        "dead-letters": f"/dead-letters?open={dead}",
        "items": f"/runs/{import_id}?items=enriched",
        "tasks": "/tasks",
        "queues": "/queues",
        "schedules": "/schedules",
        "workers": "/workers",
        "audit": "/audit",
        "login": "/login",
    }


def take(chromium: Browser, house: House, name: str, path: str, theme: str) -> None:
    sizes = {"": WIDE} | ({"-375": NARROW} if name in ("overview", "runs", "run") else {})
    for suffix, (width, height) in sizes.items():
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            base_url=house.address,
            color_scheme="dark" if theme == "dark" else "light",
        )
        page = context.new_page()
        if name != "login":
            page.goto(f"/?token={TOKEN}")
        page.goto(path)
        page.wait_for_timeout(400)
        shot = page.screenshot()
        page.goto("about:blank")
        file = TARGET / f"{name}{suffix}-{theme}.png"
        file.write_bytes(small_png(page, shot))
        print(f"{file.name:30} {file.stat().st_size / 1000:6.0f} kB")
        context.close()


def small_png(page: Page, shot: bytes) -> bytes:
    """The same picture with at most 256 colours."""
    found = page.evaluate(PALETTE, base64.b64encode(shot).decode())
    width, height = found["width"], found["height"]
    places = base64.b64decode(found["places"])
    rows = b"".join(b"\0" + places[y * width : (y + 1) * width] for y in range(height))
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", bytes(found["palette"])),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    ]
    chunks = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


if __name__ == "__main__":
    main(sys.argv[1:])
