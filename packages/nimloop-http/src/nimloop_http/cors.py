"""Cross-Origin Resource Sharing: which pages of other origins may use this server (Fetch, "CORS protocol").

The browser enforces it; the server only says what it allows. A preflight is an OPTIONS request with Origin and
Access-Control-Request-Method, sent by the browser itself before a request that a plain form could not have made.
It never carries credentials, so it has to be answered before anything asks for them.

Where the answer depends on the origin it says ``Vary: Origin``, also when there was none: a cache must not give one
page what was meant for another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, final

from nimloop_http._grammar import TOKEN
from nimloop_http.request import HttpRequest
from nimloop_http.response import HttpResponse

__all__ = ["CorsPolicy", "OriginRule"]

OriginRule = str | re.Pattern[str] | Callable[[str], bool]
"""``"https://example.org"``; ``"https://*.example.org"`` for all its subdomains; a pattern for the whole origin; or a
function that is given the origin."""

# RFC 6454 §6.1: scheme, host and perhaps a port; no path, not even "/". And what sandboxed pages send.
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+|null", re.ASCII)
# More of them than this are no request of a browser, and are not to be echoed.
_MOST_HEADERS: Final = 64


@final
class CorsPolicy:
    """What pages of other origins may do. Call `check` first in the handler.

    - ``origins``: ``"*"`` for every page of the web, or a collection of rules; see `OriginRule`. ``"null"`` has to
      be listed.
    - ``methods``, ``headers``: What a request may use beyond GET, HEAD, POST and beyond the harmless fields;
      ``"*"`` for whatever is asked.
    - ``credentials``: Whether requests come with cookies and logins. Not together with ``origins="*"``, which would
      hand the user's account to every page; to mean that, say it with a function.
    - ``expose``: Fields of the response that scripts may read, beyond the harmless ones.
    - ``max_age``: Seconds that a browser may remember the answer to a preflight; browsers have limits of their own.
    - ``private_network``: Whether public pages may reach this server on a private network.

    Raises ValueError for what browsers would not understand.
    """

    __slots__ = (
        "_any_origin",
        "_credentials",
        "_exact",
        "_expose",
        "_headers",
        "_max_age",
        "_methods",
        "_private_network",
        "_rules",
    )

    def __init__(
        self,
        origins: str | Iterable[OriginRule],
        *,
        methods: str | Iterable[str] = ("GET", "HEAD", "POST"),
        headers: str | Iterable[str] = (),
        credentials: bool = False,
        expose: Iterable[str] = (),
        max_age: int = 600,
        private_network: bool = False,
    ) -> None:
        if isinstance(origins, str) and origins != "*":
            origins = (origins,)
        self._any_origin: Final = origins == "*"
        if self._any_origin and credentials:
            raise ValueError('credentials for origins="*" would let every page act as the user; list the origins')
        self._exact: Final[set[str]] = set()
        self._rules: Final[list[Callable[[str], object]]] = []
        for rule in () if self._any_origin else origins:
            self._add(rule)
        self._methods: Final = None if methods == "*" else ", ".join(_tokens(methods))
        self._headers: Final = None if headers == "*" else ", ".join(_tokens(headers))
        self._expose: Final = ", ".join(_tokens(expose))
        if credentials and self._expose == "*":
            raise ValueError('with credentials, expose="*" means a field of that name; list them')
        if max_age < 0:
            raise ValueError(f"max_age must not be negative: {max_age}")
        self._credentials: Final = credentials
        self._max_age: Final = max_age
        self._private_network: Final = private_network

    def allows(self, origin: str) -> bool:
        """Tell whether pages of this origin, as the browser spells it, are allowed."""
        return self._any_origin or origin in self._exact or any(rule(origin) for rule in self._rules)

    def check(self, req: HttpRequest, res: HttpResponse) -> bool:
        """Put what is allowed into the response, and tell whether the request is still to be answered.

        False for a preflight: it has been answered, with 204, or with 403 for an origin that is not allowed. Any other
        request of an origin that is not allowed goes on without permission to read the answer: it may be one that a
        form can send too, and whether to serve it is not CORS's to decide.
        """
        origin = req.headers.get("origin")
        asked = req.headers.get("access-control-request-method") if req.method == "OPTIONS" else None
        preflight = origin is not None and asked is not None
        if preflight:
            res.header("Vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
        elif not self._any_origin:
            res.header("Vary", "Origin")
        if origin is None:
            return True
        if not self.allows(origin):
            if preflight:
                res.send_error(403, "this origin is not allowed")
            return not preflight
        res.header("Access-Control-Allow-Origin", "*" if self._any_origin else origin)
        if self._credentials:
            res.header("Access-Control-Allow-Credentials", "true")
        if preflight:
            self._answer(req, res, asked or "")
            return False
        if self._expose:
            res.header("Access-Control-Expose-Headers", self._expose)
        return True

    def _answer(self, req: HttpRequest, res: HttpResponse, method: str) -> None:
        """Answer a preflight. What is not allowed is left out of the lists, and the browser's console says which."""
        # Echoed rather than "*": that would not cover Authorization, and nothing at all with credentials.
        methods = self._methods if self._methods is not None else method if TOKEN.fullmatch(method) else ""
        if methods:
            res.header("Access-Control-Allow-Methods", methods)
        headers = self._headers
        if headers is None:
            wanted = [name.strip() for name in req.headers.get("access-control-request-headers", "").split(",")]
            headers = ", ".join(name for name in wanted[:_MOST_HEADERS] if TOKEN.fullmatch(name))
        if headers:
            res.header("Access-Control-Allow-Headers", headers)
        if self._private_network and req.headers.get("access-control-request-private-network") == "true":
            res.header("Access-Control-Allow-Private-Network", "true")
        res.header("Access-Control-Max-Age", str(self._max_age)).status(204).send()

    def _add(self, rule: OriginRule) -> None:
        if isinstance(rule, re.Pattern):
            self._rules.append(rule.fullmatch)  # never search: evil.example/?https://good.example
        elif not isinstance(rule, str):
            self._rules.append(rule)
        elif rule == "*":
            raise ValueError('"*" stands alone: origins="*"')
        elif not _ORIGIN.fullmatch(rule):
            raise ValueError(f"not an origin as browsers send it, such as https://example.org: {rule!r}")
        elif "*" in rule:
            before, star, after = rule.partition("://*.")
            if not star or "*" in before + after:
                raise ValueError(f'"*" stands for the subdomains, as in https://*.example.org: {rule!r}')
            host = re.escape(after)
            # Labels of letters, digits and hyphens: nothing that could end the host early.
            self._rules.append(re.compile(rf"{re.escape(before)}://(?:[a-z0-9_-]+\.)+{host}", re.ASCII).fullmatch)
        else:
            self._exact.add(rule)


def _tokens(names: str | Iterable[str]) -> list[str]:
    listed = [names] if isinstance(names, str) else list(names)
    for name in listed:
        if not TOKEN.fullmatch(name):
            raise ValueError(f"not a method or the name of a field: {name!r}")
    return listed
