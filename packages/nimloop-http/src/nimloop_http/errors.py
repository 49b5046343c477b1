"""Every exception that nimloop-http raises on its own account.

NimloopError
└── HttpError
    ├── ProtocolError                    the peer broke the protocol; carries the `status` to answer
    │   ├── BadRequestError              400  malformed, ambiguous or forbidden
    │   ├── UnknownMethodError           501  well-formed, but not a method that is implemented
    │   ├── UnknownCodingError           501  a transfer coding other than chunked
    │   ├── UnknownExpectationError      417  Expect asks for something other than 100-continue
    │   ├── MisdirectedError             421  a resource of https, asked for over a connection that is not secured
    │   ├── VersionError                 505  not HTTP/1.0 or HTTP/1.1
    │   ├── IncompleteMessageError       400  the peer ended its side in the middle of a message
    │   ├── RequestTimeoutError (TimeoutError)  408  the message did not arrive in time
    │   ├── FormError                    400  the body is not the form that it claims to be
    │   │   └── NotAFormError            415  it does not even claim to be one
    │   ├── JsonError (ValueError)       400  the body is not JSON
    │   └── LimitError                   a setting in `Limits` or `FormLimits` was exceeded
    │       ├── RequestLineTooLongError  414
    │       ├── HeadersTooLargeError     431  the header section has too many bytes
    │       ├── TooManyHeadersError      431  … or too many fields
    │       ├── BodyTooLargeError        413
    │       ├── ChunkLineTooLongError    400  the line with a chunk's size and extensions
    │       ├── TrailersTooLargeError    431
    │       ├── TooManyPartsError        413  a form has too many parts
    │       ├── TooManyFilesError        413  … or too many of them are files
    │       ├── FieldTooLargeError       413  a text of a form is too long
    │       ├── FieldsTooLargeError      413  … or all of them together are
    │       ├── FileTooLargeError        413  a file in a form
    │       ├── PartHeaderTooLongError   431  a header field of a part of a form
    │       └── TooManyPartHeadersError  431  … or their number
    ├── ProxyProtocolError               what a proxy says at the beginning of a connection is no PROXY header
    ├── RangeNotSatisfiableError         416  a byte range that begins behind the end of the file
    ├── ForbiddenPathError               403  a path that leads out of the folder being served
    └── MisuseError (RuntimeError)       this program used the library wrongly
        ├── InvalidHeaderError (ValueError)  a field that must not, or cannot, be sent
        ├── ResponseSentError            the response was sent already
        ├── ContentLengthError           a stream got more or less than it had promised
        ├── StaleResponseError           the client has gone; there is nobody to answer
        ├── WsgiError                    a WSGI application broke PEP 3333
        ├── BodyNotReadyError            the body has not arrived, or has gone elsewhere
        ├── UpgradeError                 a change of protocol that the client did not offer
        ├── ParserStateError             the parser was fed after an error or after an upgrade
        └── BacklogError                 the parser was fed much more than was taken out
"""

from __future__ import annotations

from nimloop_core import NimloopError

__all__ = [
    "BacklogError",
    "BadRequestError",
    "BodyNotReadyError",
    "BodyTooLargeError",
    "ChunkLineTooLongError",
    "ContentLengthError",
    "FieldTooLargeError",
    "FieldsTooLargeError",
    "FileTooLargeError",
    "ForbiddenPathError",
    "FormError",
    "HeadersTooLargeError",
    "HttpError",
    "IncompleteMessageError",
    "InvalidHeaderError",
    "JsonError",
    "LimitError",
    "MisdirectedError",
    "MisuseError",
    "NotAFormError",
    "ParserStateError",
    "PartHeaderTooLongError",
    "ProtocolError",
    "ProxyProtocolError",
    "RangeNotSatisfiableError",
    "RequestLineTooLongError",
    "RequestTimeoutError",
    "ResponseSentError",
    "StaleResponseError",
    "TooManyFilesError",
    "TooManyHeadersError",
    "TooManyPartHeadersError",
    "TooManyPartsError",
    "TrailersTooLargeError",
    "UnknownCodingError",
    "UnknownExpectationError",
    "UnknownMethodError",
    "UpgradeError",
    "VersionError",
    "WsgiError",
]


class HttpError(NimloopError):
    """The root of nimloop-http's exceptions."""


class ProtocolError(HttpError):
    """The peer broke HTTP. `status` is what a server should answer before it closes the connection."""

    status: int = 400


class BadRequestError(ProtocolError):
    """Malformed, ambiguous or forbidden by RFC 9110 or RFC 9112; the message says what."""


class UnknownMethodError(ProtocolError):
    """A well-formed method that is not implemented."""

    status = 501


class UnknownCodingError(ProtocolError):
    """A transfer coding that is not implemented; chunked is the only one."""

    status = 501


class UnknownExpectationError(ProtocolError):
    """An expectation other than 100-continue."""

    status = 417


class MisdirectedError(ProtocolError):
    """A target of https over a connection that is not secured (RFC 9110 §7.4)."""

    status = 421


class VersionError(ProtocolError):
    """A version of HTTP other than 1.0 and 1.1."""

    status = 505


class IncompleteMessageError(ProtocolError):
    """The peer ended its side in the middle of a message."""


class RequestTimeoutError(ProtocolError, TimeoutError):
    """The message did not arrive within its deadline."""

    status = 408


class LimitError(ProtocolError):
    """A limit of this server was exceeded; the message names it."""


class RequestLineTooLongError(LimitError):
    """The request line is longer than ``Limits.request_line``."""

    status = 414


class HeadersTooLargeError(LimitError):
    """The header section is larger than ``Limits.header_bytes``."""

    status = 431


class TooManyHeadersError(LimitError):
    """There are more header fields than ``Limits.headers``."""

    status = 431


class BodyTooLargeError(LimitError):
    """The body is, or is announced to be, larger than ``Limits.body``."""

    status = 413


class ChunkLineTooLongError(LimitError):
    """The line with a chunk's size and extensions is longer than ``Limits.chunk_line``."""


class TrailersTooLargeError(LimitError):
    """The trailer section is larger than ``Limits.trailer_bytes``."""

    status = 431


class FormError(ProtocolError):
    """The body is not the form that its Content-Type promises (RFC 7578, RFC 2046 §5.1); the message says what."""


class NotAFormError(FormError):
    """The Content-Type is not one of a form."""

    status = 415


class JsonError(ProtocolError, ValueError):
    """The body is not JSON (RFC 8259), or nested deeper than can be read; the message says where."""


class TooManyPartsError(LimitError):
    """A form has more parts than ``FormLimits.parts``."""

    status = 413


class TooManyFilesError(LimitError):
    """A form has more files than ``FormLimits.files``."""

    status = 413


class FieldTooLargeError(LimitError):
    """A text of a form is longer than ``FormLimits.field``."""

    status = 413


class FieldsTooLargeError(LimitError):
    """The texts of a form are together longer than ``FormLimits.fields``."""

    status = 413


class FileTooLargeError(LimitError):
    """A file in a form is larger than ``FormLimits.file``."""

    status = 413


class PartHeaderTooLongError(LimitError):
    """A header field of a part is longer than ``FormLimits.header_bytes``."""

    status = 431


class TooManyPartHeadersError(LimitError):
    """A part has more header fields than ``FormLimits.headers``."""

    status = 431


class ProxyProtocolError(HttpError):
    """The connection does not begin with a valid header of the PROXY protocol; the message says what is wrong."""


class RangeNotSatisfiableError(HttpError):
    """A byte range begins behind the end. `size` is that of the whole, for Content-Range."""

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


class ForbiddenPathError(HttpError):
    """A path leads out of the folder that is served, or tries to."""


class MisuseError(HttpError, RuntimeError):
    """This program used the library wrongly."""


class InvalidHeaderError(MisuseError, ValueError):
    """The field would break the response apart, or belongs to the server (framing)."""


class ResponseSentError(MisuseError):
    """The response was sent, or its stream was begun, already."""


class ContentLengthError(MisuseError):
    """A sized stream got more or fewer bytes than it had promised; the connection was aborted."""


class StaleResponseError(MisuseError):
    """The client has gone; look at ``res.closed``, or set ``res.on_close``, before answering late."""


class WsgiError(MisuseError):
    """A WSGI application did what PEP 3333 does not allow; the message says what."""


class BodyNotReadyError(MisuseError):
    """The body of the request has not arrived yet, or was sent elsewhere; the message says which."""


class UpgradeError(MisuseError):
    """The client did not offer to change to this protocol: ask ``req.wants_upgrade(protocol)`` first."""


class ParserStateError(MisuseError):
    """The parser cannot go on: it has raised a `ProtocolError`, or the connection belongs to another protocol now."""


class BacklogError(MisuseError):
    """Too many bytes wait in the parser already; nothing was added. Take events, and stop reading meanwhile."""
