"""A handler that can be made to hang."""

import os
import time
from typing import TYPE_CHECKING

from _peer import BODY

if TYPE_CHECKING:
    from nimloop_http import HttpRequest, HttpResponse


def on_request(req: "HttpRequest", res: "HttpResponse") -> None:
    """Answer; ``/who`` with the process, ``/hang`` after an hour."""
    if req.path == "/hang":
        time.sleep(3600)
    res.send(str(os.getpid()) if req.path == "/who" else BODY)
