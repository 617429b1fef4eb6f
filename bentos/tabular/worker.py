"""A server process on a socket that others share: what `mlops serve` starts, in a Bento's folder.

    python -m bentos.tabular.worker --fd 5 --ready 7

It accepts from the listening socket `fd` once its model is loaded and tried, and says so by a line
on `ready`. Asked to end (SIGTERM), it accepts no more, answers what it has with `Connection:
close`, and ends when its callers have gone, so that another process on the same socket takes over
and no request fails. `bentoml serve` does without this, in a container say.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from bentos.tabular.settings import VARIABLES

if TYPE_CHECKING:
    import uvicorn

DRAIN_SECONDS = 5.0
"""Time in which callers that keep their connection can ask once more, and are told to leave."""


def main(arguments: list[str]) -> int:
    """Serve until asked to end; the process ends with 3 where the service does not start."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--ready", type=int, required=True)
    asked = parser.parse_args(arguments)
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    server = _server(asked.ready)
    server.run(sockets=[socket.socket(fileno=asked.fd)])
    return 0


def _server(ready: int) -> uvicorn.Server:
    import uvicorn

    from bentos.tabular.endpoint import Drain
    from bentos.tabular.service import Tabular

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                os.write(ready, b"ready\n")
            os.close(ready)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            for listening in self.servers:
                listening.close()
            Drain.begun = True
            end = time.monotonic() + DRAIN_SECONDS
            while self.server_state.connections and time.monotonic() < end:
                await asyncio.sleep(0.02)
            await super().shutdown(sockets)

    service: Any = Tabular
    config = uvicorn.Config(
        service.to_asgi(),
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        backlog=2048,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=10,
    )
    return Server(config)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
