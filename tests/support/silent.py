"""A broker without workers, for tests of what happens before one has a message."""

from collections.abc import AsyncGenerator

from taskiq import AsyncBroker, BrokerMessage


class SilentBroker(AsyncBroker):
    """Takes messages, and delivers none: runs are made and stay."""

    async def kick(self, message: BrokerMessage) -> None:
        """Forget it."""

    async def listen(self) -> AsyncGenerator[bytes, None]:
        """Deliver nothing."""
        return
        yield b""
