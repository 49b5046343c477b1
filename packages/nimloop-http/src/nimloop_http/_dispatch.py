"""From heads and bodies to the handlers: what may be asked of a request before its body, and who gets it when."""

from __future__ import annotations

from nimloop_http._answers import AnswerQueue
from nimloop_http._head import Head
from nimloop_http._incoming import RequestBody
from nimloop_http._lifetime import LAST
from nimloop_http.errors import ProtocolError, UnknownExpectationError, UnknownMethodError
from nimloop_http.request import HttpRequest
from nimloop_http.response import HttpResponse


class Dispatcher(AnswerQueue):
    """Hands the requests of one connection to the handlers, and their bodies to where they are wanted."""

    __slots__ = ()

    def _begin(self, response: HttpResponse, head: Head, body: RequestBody | None) -> None:
        """Take in a request that is not as plain as most are: with a body, or with something to decide before."""
        server = self._server
        request = HttpRequest(head, self.source, body)
        if body is not None:
            body.request = request
            self._receiving = body
        if server.access_log:
            server.log_when_done(response)
        if server.stopping:
            self._state = LAST
        try:
            if server.methods is not None and head.method not in server.methods:
                raise UnknownMethodError(f"the method {head.method[:30]!r} is not implemented")  # noqa: TRY301
            if head.unknown_expectation:
                raise UnknownExpectationError(f"unknown expectation: {head.unknown_expectation[:60]!r}")  # noqa: TRY301
            on_headers = server.on_headers
            if on_headers is not None:
                on_headers(request, response)
            if body is not None and not response.sent:
                body.check_announced()
        except ProtocolError as error:
            if body is not None:
                body.drop_sink(error)  # a file that was chosen is not to stay open for what is too much
            self._decline(response, error)
        except Exception as error:
            self._failed(error, request, response)
        if body is None:
            if not response.sent and not response.closed:
                self._hand_over_request(response, request)
        elif self._receiving is body:
            if response.sent and body.sink is None:
                body.skip()
            elif not body.paused:
                self._ask_for(body)

    def _ask_for(self, body: RequestBody) -> None:
        """The body is wanted: tell a client that waits to hear it."""
        if body.continue_due:
            body.continue_due = False
            if not body.response.sent:
                self.write(body.response, b"HTTP/1.1 100 Continue\r\n\r\n")

    def _take(self, data: bytes) -> None:
        """A piece of the body has come."""
        body = self._receiving
        assert body is not None
        try:
            body.take(data)
        except Exception as error:
            self._fail_body(body, error)

    def _on_body_end(self) -> None:
        """The last byte has come; the request is complete unless its sink needs more time."""
        body = self._receiving
        assert body is not None
        body.ended = True
        try:
            if body.sink is not None:
                body.sink.end()
        except Exception as error:
            self._fail_body(body, error)
        if self._receiving is body and not body.paused:
            self._complete(body)

    def _complete(self, body: RequestBody) -> None:
        """The request is complete: hand it to the handler, unless it was answered or somebody else will do that."""
        request = body.request
        response = body.response
        self._receiving = None
        body.finish()
        if request is not None and not body.taken and not response.sent and not response.closed:
            self._hand_over_request(response, request)

    def _fail_body(self, body: RequestBody, error: Exception) -> None:
        """A body is not wanted as it is: answer what the error says. Its end is known, so the connection can go on."""
        if self._receiving is not body:
            return
        if body.skipping:
            self._cut_off(error)  # that was the end of patience
            return
        request = body.request
        assert request is not None
        body.drop_sink(error)
        if not body.ended:
            body.skip()
        if isinstance(error, ProtocolError):
            self._decline(body.response, error)
        else:
            self._failed(error, request, body.response)
        if self._receiving is body and body.ended:
            self._complete(body)

    def _hand_over_request(self, response: HttpResponse, request: HttpRequest) -> None:
        """The request is complete.

        One that offers another protocol is handled when the answers before it are out, and nothing is read behind it.
        """
        if not request.head.upgrade:
            self._dispatch(response, request)
            return
        self._upgrading = response
        if self._first is not response:
            self._postponed = request
            return
        self._dispatch(response, request)
        if response.done:
            self._upgrading = None

    def _dispatch(self, response: HttpResponse, request: HttpRequest) -> None:
        server = self._server
        if server.access_log:
            server.log_when_done(response)
        try:
            server.on_request(request, response)
        except ProtocolError as error:
            self._decline(response, error)
        except Exception as error:
            self._failed(error, request, response)

    def _failed(self, error: Exception, request: HttpRequest, response: HttpResponse) -> None:
        """A handler has raised: report it, and answer 500 if that is still possible."""
        self.connection.loop.exception_handler(error, request)
        if response.status_code == 101:
            self.connection.abort()  # nobody has taken it over
        if response.done or response.closed:
            return
        if response.sent:
            self.break_off()  # the client must not take it for complete
        else:
            response.replace_by_error(500, close=False)

    def _decline(self, response: HttpResponse, error: ProtocolError) -> None:
        """Answer what the error says, and go on: the framing is intact."""
        if response.done or response.closed:
            return
        if response.sent:
            self.break_off()
        else:
            response.replace_by_error(error.status, str(error), close=False)

    def _cut_off(self, error: Exception) -> None:
        """Read no more of a body that was answered already, and end with the answers that are on their way."""
        self._state = LAST
        self._abandon(error)
        if self._first is None:
            self._end(linger=None)
