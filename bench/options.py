"""What the command line asks of a scenario."""

import sys
import time

import msgspec


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """One field per option of `python -m bench <scenario>`."""

    seconds: float = 2.0
    """How long one measured stretch should take, about; scales the amount of data."""
    repeats: int = 5
    """Interleaved repetitions of each measurement and its limit."""
    seed: int = 20_261_121
    only: str = ""
    """Only cells whose name contains this, or one of these with commas between."""
    is_quiet: bool = False

    def wants(self, name: str) -> bool:
        """Whether a cell is to be measured."""
        return any(part in name for part in self.only.split(","))

    def count(self, per_second: float, *, least: int = 1) -> int:
        """How many things fill a stretch at a rate."""
        return max(least, int(self.seconds * per_second))

    def say(self, text: str) -> None:
        """Progress, to standard error."""
        if not self.is_quiet:
            print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)
