"""The README: its tables of settings are those of the code, and every name in the one for people from powpow exists."""

from __future__ import annotations

import re
from operator import attrgetter
from pathlib import Path

import pytest
from tests.support.settings import table

import nimloop_http
from nimloop_core import Loop
from nimloop_http import FormLimits, HttpServer, Limits, Timeouts

README = Path(__file__).parents[2] / "packages" / "nimloop-http" / "README.md"
TEXT = README.read_text("utf-8")
SETTINGS = [Limits, Timeouts, FormLimits]


@pytest.mark.interpreted
@pytest.mark.parametrize("settings", SETTINGS)
def test_the_table_of_settings_is_that_of_the_code(settings: type) -> None:
    """Paste what the message shows."""
    assert table(settings) in TEXT, table(settings)


@pytest.mark.parametrize("settings", SETTINGS)
def test_defaults_in_the_text_are_those_of_the_code(settings: type) -> None:
    """Wherever the README names a setting with a number behind it, that is its default."""
    found = re.findall(rf"`{settings.__name__}\.(\w+)`,? \(?(\d+)(?: (MiB|GiB|s)\b)?", TEXT)
    assert found or settings is FormLimits
    for name, number, unit in found:
        default = getattr(settings(), name)
        assert default == int(number) * {"MiB": 1 << 20, "GiB": 1 << 30}.get(unit, 1), name


# What the original exports of what is nimloop-http's part here; `stop`, `close`, `send`, `listen` and so on once.
POWPOW = """
MaxHeaderSize MaxRequestLine MaxHeaders DefaultBodyBuf HttpBodyCallback ParsePhase HttpParser newHttpParser feed reset
resetForNext phase isComplete isError error peekMethod peekPath peekContentType getRequest getRemainingData getBodyView
HttpRequest getMethod getPath getQuery getUrl getHeaders getContentLength getConnectionClose getClientIp getBody
getBodyString bodyView headerBytes BodyStream getBodyStream readChunk readChunkString readChunkInto peekChunk peekAll
drainChunk getMultipart streamToFile OnRequestCallback HttpServer newHttpServer start setKeepAliveTimeout
DefaultKeepAliveMs ConnHttp removeSession ensureTcpServer populatePools addConnection getLoop HttpResponse status header
sendError getConn markSent sendFile streamFile serveFile serveStatic parseRange getFileExt writeDisposition
DefaultChunkSize RateLimiter newRateLimiter allow check stop close send listen listenUnix
"""


def powpow_table() -> list[tuple[list[str], list[str]]]:
    """Return what the rows name: of the original, and of this package."""
    section = TEXT.partition("## Coming from powpow")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("|")][2:]
    return [(re.findall("`([^`]+)`", there), re.findall("`([^`]+)`", here)) for there, here in rows]


def test_every_symbol_of_powpow_has_a_row() -> None:
    """Each in one row only."""
    named = [name for there, _ in powpow_table() for name in there]
    assert len(named) == len(set(named))
    assert set(POWPOW.split()) == set(named)


@pytest.mark.parametrize("name", sorted({name for _, here in powpow_table() for name in here}))
def test_what_stands_for_it_exists(name: str) -> None:
    """As a name of the package, of one of its classes, or of a server."""
    owner, _, attribute = name.partition(".")
    if owner == "HttpServer" and attribute:
        with Loop() as loop, HttpServer(loop, lambda req, res: None) as server:
            attrgetter(attribute)(server)  # some are attributes of the instance
    else:
        attrgetter(name)(nimloop_http)
