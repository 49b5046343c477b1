"""Print what happens in a folder and below it, until Ctrl+C.

python examples/core/watch_folder.py [FOLDER]
"""

from __future__ import annotations

import signal
import sys

from nimloop_core import Loop
from nimloop_core.filewatch import ENDED, OVERFLOW, FileEvent, FileWatcher


def main() -> None:
    """Watch the folder on the command line, or this one."""
    folder = sys.argv[1] if len(sys.argv) > 1 else "."

    def on_change(event: FileEvent) -> None:
        where = f"{event.old_path} -> {event.path}" if event.old_path else event.path
        print(f"{event.kind:10} {where}{'/' if event.is_dir else ''}", flush=True)
        if event.kind == OVERFLOW:
            print("           too much at once: whoever keeps a list of this folder has to read it again")
        elif event.kind == ENDED:
            loop.stop()

    with Loop() as loop, FileWatcher(loop, folder, on_change, recursive=True) as watcher:
        loop.add_signal_handler(signal.SIGINT, loop.stop)
        print(f"watching {watcher.path} with {watcher.mechanism}", flush=True)
        loop.run()


if __name__ == "__main__":
    main()
