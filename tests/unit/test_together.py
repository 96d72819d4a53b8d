"""Many who want to know at once: one question for all, and nobody's end is another's."""

import asyncio
import contextlib

import pytest

from app.db.together import Together


class Asked:
    """Answers slowly and keeps what it was asked."""

    def __init__(self) -> None:
        self.questions: list[list[int]] = []
        self.gate = asyncio.Event()
        self.failure: Exception | None = None

    async def __call__(self, things: list[int]) -> None:
        self.questions.append(sorted(things))
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure


async def test_what_comes_during_a_question_goes_in_the_next_once() -> None:
    asked = Asked()
    together = Together(asked)
    first = asyncio.create_task(together.want([1]))
    await asyncio.sleep(0)
    others = [asyncio.create_task(together.want([number % 3, 1])) for number in range(100)]
    await asyncio.sleep(0.01)
    assert asked.questions == [[1]], "a question that runs already is not theirs"
    asked.gate.set()
    await asyncio.gather(first, *others)
    assert asked.questions == [[1], [0, 1, 2]]


async def test_whoever_stops_waiting_stops_nobody_else() -> None:
    asked = Asked()
    together = Together(asked)
    first, second = (asyncio.create_task(together.want([number])) for number in (1, 2))
    await asyncio.sleep(0.01)
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    asked.gate.set()
    await second
    assert asked.questions == [[1, 2]]


async def test_a_failure_is_told_to_all_and_ends_with_them() -> None:
    asked = Asked()
    asked.gate.set()
    asked.failure = OSError("away")
    together = Together(asked)
    found = await asyncio.gather(*(together.want([n]) for n in range(3)), return_exceptions=True)
    assert [str(one) for one in found] == ["away"] * 3
    asked.failure = None
    await together.want([1])
    with pytest.raises(OSError, match="again"):
        asked.failure = OSError("again")
        await together.want([1])
