"""The real application, except that its writer throws away what it is given.

A POST is authenticated, read, decoded, resolved and answered by the product's own code: the limit of
what acknowledging after a commit can reach. `python -m bench.noop` serves it as `headwater serve` does.
"""

import numpy as np
from granian import Granian
from granian.constants import Interfaces, Loops
from litestar import Litestar
from numpy.typing import NDArray

from app import serve
from app.ingest.batch import Batch
from app.ops import logs
from app.settings import Settings


async def discard(batch: Batch) -> NDArray[np.uint8]:
    """Every reading is called stored."""
    return np.zeros(len(batch), dtype=np.uint8)


def application() -> Litestar:
    """What the worker runs."""
    made = serve.application()
    writer = made.state.services.writer
    writer.submit = discard
    return made


def main() -> None:
    """Serve."""
    settings = Settings.from_env()
    logs.configure()
    Granian(
        "bench.noop:application",
        address=settings.headwater_host,
        port=settings.headwater_port,
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        workers=1,
        factory=True,
        websockets=True,
        log_dictconfig=logs.logging_config(),
    ).serve()


if __name__ == "__main__":
    main()
