"""A tour of the timers: one shot, interval, pause and resume, reschedule, cancel, deadline.

python examples/core/timer_tour.py          # about two seconds
python examples/core/timer_tour.py 0.1      # ten times as fast
"""

import signal
import sys

from nimloop_core import Deadline, Loop


def tour(loop: Loop, pace: float) -> None:
    """Set up everything that is going to happen; `pace` stretches or shrinks the time it takes."""
    start = loop.time()

    def say(what: str) -> None:
        print(f"{(loop.time() - start) / pace:4.1f}  {what}", flush=True)

    # One shot: called once, never early.
    loop.call_later(0.1 * pace, lambda: say("one shot"))

    # Interval: a fixed rate, until it is cancelled, here by itself.
    beats = 0

    def beat() -> None:
        nonlocal beats
        beats += 1
        say(f"beat {beats}")
        if beats == 3:
            heart.cancel()
            say("the interval has cancelled itself")

    heart = loop.call_every(0.2 * pace, beat)

    # Pause and resume: what is left of the 0.3 stays left, however long the pause.
    paused = loop.call_later(0.3 * pace, lambda: say("resumed timer: 0.3 without the pause from 0.1 to 0.9"))
    loop.call_later(0.1 * pace, paused.pause)
    loop.call_later(0.9 * pace, paused.resume)

    # Reschedule: the same timer at another time, and again after it has fired.
    encores = 0

    def again() -> None:
        nonlocal encores
        encores += 1
        say(f"rescheduled timer, call {encores}")
        if encores == 1:
            moved.reschedule(0.1 * pace)

    moved = loop.call_later(60 * pace, again)
    moved.reschedule(1.2 * pace)

    # Cancel: it never fires, and lets go of its callback at once. Cancelling twice does no harm.
    cancelled = loop.call_later(1.0 * pace, lambda: say("this is never printed"))
    cancelled.cancel()
    cancelled.cancel()
    say(f"cancelled timer: active={cancelled.active}")

    # Deadline: pushed back by everything that happens, it fires when nothing has happened for 0.4. Pushing is cheaper
    # than rescheduling, which is why servers keep their idle time-outs like this.
    events = 0

    def event() -> None:
        nonlocal events
        events += 1
        idle.set(0.4 * pace)
        if events == 4:
            traffic.cancel()
            say("the last event")

    def on_idle() -> None:
        say("deadline: nothing has happened for 0.4")
        loop.stop()

    idle = Deadline(loop, on_idle)
    idle.set(0.4 * pace)
    traffic = loop.call_every(0.35 * pace, event)


def main() -> None:
    """Run until the deadline, or Ctrl+C."""
    pace = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    with Loop() as loop:
        loop.add_signal_handler(signal.SIGINT, loop.stop)
        tour(loop, pace)
        loop.run()


if __name__ == "__main__":
    main()
