# SPDX-License-Identifier: Apache-2.0
"""The bytes of a connection after `101 Switching Protocols`, for example those of a WebSocket."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

_READ_BYTES = 65536


@dataclass(slots=True)
class Tunnel:
    """The connection to an upstream that has switched protocols. It is closed if the upstream sends nothing for `read_timeout_s`."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    read_timeout_s: float

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes between a client and the upstream until one of them closes its connection. Source: nginx, upgraded connections."""
        both = [
            asyncio.create_task(_copy(reader, self.writer, None)),
            asyncio.create_task(_copy(self.reader, writer, self.read_timeout_s)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            self.close()

    def close(self) -> None:
        """Close the connection to the upstream."""
        self.writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timeout_s: float | None) -> None:
    with suppress(OSError, TimeoutError):
        while True:
            async with asyncio.timeout(timeout_s):
                data = await reader.read(_READ_BYTES)
            if not data:
                return
            writer.write(data)
            await writer.drain()
