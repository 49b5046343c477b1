"""HTTP hello: CPU time per request for a 13-byte answer, nimloop beside its peers and a floor in C."""

import sys
from dataclasses import replace
from typing import Final

from _harness import Contender, Options, arguments, c_program, cannot, positive, pure_peer, python_peer, run
from _wrk import HttpWorkload

CONTENDERS: Final = (
    Contender("floor", c_program("floor/floor.c"), routes=False),
    Contender("nimloop", python_peer("hello_nimloop.py")),
    Contender("nimloop-python", pure_peer("hello_nimloop.py")),
    Contender("uvloop-httptools", python_peer("hello_uvloop.py"), routes=False),
    Contender("bjoern", python_peer("hello_bjoern.py")),
    Contender("fastwsgi", python_peer("hello_fastwsgi.py")),
    Contender("socketify", python_peer("hello_socketify.py")),
    Contender("granian-rsgi", python_peer("hello_granian.py", "--interface", "rsgi")),
    Contender("granian-asgi", python_peer("hello_granian.py", "--interface", "asgi")),
    Contender("uvicorn", python_peer("hello_uvicorn.py")),
    Contender("robyn", python_peer("hello_robyn.py")),
    Contender("aiohttp", python_peer("hello_aiohttp.py")),
    Contender("tornado", python_peer("hello_tornado.py")),
)

# They answer the first request of a pipeline and lose the others.
NO_PIPELINE: Final = ("bjoern",)


def main() -> int:
    """Parse, measure, report."""
    parser = arguments(__doc__)
    parser.add_argument("--pipeline", type=positive, default=1, metavar="N", help="requests sent at once (default 1)")
    given = parser.parse_args()
    options = Options.of(given)
    workload = HttpWorkload(connections=options.connections, pipeline=given.pipeline)
    contenders = [
        replace(each, command=cannot("it does not answer pipelined requests"))
        if workload.pipeline > 1 and each.name in NO_PIPELINE
        else each
        for each in CONTENDERS
    ]
    return run("http_hello", contenders, workload, options)


if __name__ == "__main__":
    sys.exit(main())
