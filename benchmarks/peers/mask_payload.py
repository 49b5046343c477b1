"""Masking one payload over and over, or copying it with memcpy(3), measured in this process."""

import os
import time
from collections.abc import Callable
from typing import Final

from _peer import need, parser, say_build, say_compiled, say_result

_SECONDS: Final = 0.5
_QUICK_SECONDS: Final = 0.02
_BYTES: Final = 1 << 20  # between two looks at the clock, at least
_KEY: Final = bytes((0x37, 0xFA, 0x21, 0x3D))  # of the examples in RFC 6455 §5.7


def cost(work: Callable[[], object], size: int, seconds: float) -> float:
    """CPU time of one call in nanoseconds."""
    batch = max(1, _BYTES // size)
    spent = calls = 0
    while spent < seconds * 1e9:
        begin = time.process_time_ns()
        for _ in range(batch):
            work()
        spent += time.process_time_ns() - begin
        calls += batch
    return spent / calls


def main() -> None:
    """Measure what is asked for."""
    arguments = parser()
    arguments.add_argument("--loop", choices=("memcpy", "nimloop"), required=True)
    arguments.add_argument("--size", type=int, required=True)
    arguments.add_argument("--quick", action="store_true")
    given = arguments.parse_args()
    size: int = given.size
    payload = os.urandom(size)
    if given.loop == "memcpy":
        view = memoryview(payload)
        work: Callable[[], bytes] = view.tobytes
        if work() != payload:
            raise SystemExit("a copy is not the same")
    else:
        codec = need("nimloop_ws._codec")
        say_build(need("nimloop_ws"))
        say_compiled()
        print(f"build masking: {codec.IMPLEMENTATION}")

        def work() -> bytes:
            masked: bytes = codec.apply_mask(payload, _KEY, 0, size)
            return masked

        if work() != bytes(byte ^ _KEY[at & 3] for at, byte in enumerate(payload)):
            raise SystemExit("masked wrongly")
    nanoseconds = cost(work, size, _QUICK_SECONDS if given.quick else _SECONDS)
    say_result({"payload_ns": nanoseconds, "byte_ns": nanoseconds / size})


if __name__ == "__main__":
    main()
