"""nimloop and asyncio in one thread, both ways round.

    python examples/core/asyncio_guest.py       # three rounds each
    python examples/core/asyncio_guest.py 1

First nimloop is in charge and asyncio its guest; then asyncio is in charge, and nimloop runs whenever asyncio would
wait. In both, a coroutine asks for something that a callback of nimloop delivers.
"""

import asyncio
import sys

from nimloop_core import Loop
from nimloop_core.interop import AsyncioGuest, NimloopSelector


def ask(loop: Loop, number: int) -> asyncio.Future[str]:
    """Return a future that a timer of nimloop fulfils: how a callback's result becomes something to await."""
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def deliver() -> None:
        if not answer.done():  # cancelled meanwhile, perhaps
            answer.set_result(f"answer {number}")

    loop.call_later(0.01, deliver)
    return answer


async def conversation(loop: Loop, rounds: int) -> str:
    """Wait for asyncio's own timer and for nimloop's in turn."""
    for number in range(1, rounds + 1):
        await asyncio.sleep(0.01)
        print(f"  coroutine got {await ask(loop, number)}", flush=True)
    return "the coroutine has returned"


def nimloop_in_charge(rounds: int) -> None:
    """`loop.run()` runs the program; coroutines are started with `create_task`."""
    print("asyncio inside nimloop")
    with Loop() as loop, AsyncioGuest(loop) as guest:

        def on_done(task: asyncio.Task[str]) -> None:
            if not task.cancelled():
                print(f"  {task.result()}")
            loop.stop()

        guest.create_task(conversation(loop, rounds)).add_done_callback(on_done)
        loop.run()


def asyncio_in_charge(rounds: int) -> None:
    """`runner.run()` runs the program; nimloop's callbacks come by themselves."""
    print("nimloop inside asyncio")
    with (
        Loop() as loop,
        asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(NimloopSelector(loop))) as runner,
    ):
        print(f"  {runner.run(conversation(loop, rounds))}")


def main() -> None:
    """Do the same both ways."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    try:
        nimloop_in_charge(rounds)
        asyncio_in_charge(rounds)
    except KeyboardInterrupt:
        print("interrupted")


if __name__ == "__main__":
    main()
