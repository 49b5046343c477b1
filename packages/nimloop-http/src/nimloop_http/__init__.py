"""nimloop-http: an HTTP/1.1 parser and callback server, and static files, on nimloop-net."""

from __future__ import annotations

from nimloop_http._bodystream import BodyStream as BodyStream
from nimloop_http._bodystream import OnBodyData as OnBodyData
from nimloop_http._bodystream import OnBodyEnd as OnBodyEnd
from nimloop_http._bodystream import OnBodyError as OnBodyError
from nimloop_http._disposition import content_disposition as content_disposition
from nimloop_http._form import Form as Form
from nimloop_http._form import Part as Part
from nimloop_http._framing import STANDARD_METHODS as STANDARD_METHODS
from nimloop_http._framing import Head as Head
from nimloop_http._head import ResponseHead as ResponseHead
from nimloop_http._headers import Headers as Headers
from nimloop_http._incoming import BodySink as BodySink
from nimloop_http._incoming import RequestBody as RequestBody
from nimloop_http._mime import get_file_ext as get_file_ext
from nimloop_http._ranges import ByteRange as ByteRange
from nimloop_http._ranges import parse_range as parse_range
from nimloop_http._ranges import parse_ranges as parse_ranges
from nimloop_http._scanner import find_crlf as find_crlf
from nimloop_http._scanner import find_double_crlf as find_double_crlf
from nimloop_http._spool import BodyFile as BodyFile
from nimloop_http._stream import ResponseStream as ResponseStream
from nimloop_http.cors import CorsPolicy as CorsPolicy
from nimloop_http.errors import BacklogError as BacklogError
from nimloop_http.errors import BadRequestError as BadRequestError
from nimloop_http.errors import BodyNotReadyError as BodyNotReadyError
from nimloop_http.errors import BodyTooLargeError as BodyTooLargeError
from nimloop_http.errors import ChunkLineTooLongError as ChunkLineTooLongError
from nimloop_http.errors import ContentLengthError as ContentLengthError
from nimloop_http.errors import FieldsTooLargeError as FieldsTooLargeError
from nimloop_http.errors import FieldTooLargeError as FieldTooLargeError
from nimloop_http.errors import FileTooLargeError as FileTooLargeError
from nimloop_http.errors import ForbiddenPathError as ForbiddenPathError
from nimloop_http.errors import FormError as FormError
from nimloop_http.errors import HeadersTooLargeError as HeadersTooLargeError
from nimloop_http.errors import HttpError as HttpError
from nimloop_http.errors import IncompleteMessageError as IncompleteMessageError
from nimloop_http.errors import InvalidHeaderError as InvalidHeaderError
from nimloop_http.errors import JsonError as JsonError
from nimloop_http.errors import LimitError as LimitError
from nimloop_http.errors import MisdirectedError as MisdirectedError
from nimloop_http.errors import MisuseError as MisuseError
from nimloop_http.errors import NotAFormError as NotAFormError
from nimloop_http.errors import ParserStateError as ParserStateError
from nimloop_http.errors import PartHeaderTooLongError as PartHeaderTooLongError
from nimloop_http.errors import ProtocolError as ProtocolError
from nimloop_http.errors import ProxyProtocolError as ProxyProtocolError
from nimloop_http.errors import RangeNotSatisfiableError as RangeNotSatisfiableError
from nimloop_http.errors import RequestLineTooLongError as RequestLineTooLongError
from nimloop_http.errors import RequestTimeoutError as RequestTimeoutError
from nimloop_http.errors import ResponseSentError as ResponseSentError
from nimloop_http.errors import StaleResponseError as StaleResponseError
from nimloop_http.errors import TooManyFilesError as TooManyFilesError
from nimloop_http.errors import TooManyHeadersError as TooManyHeadersError
from nimloop_http.errors import TooManyPartHeadersError as TooManyPartHeadersError
from nimloop_http.errors import TooManyPartsError as TooManyPartsError
from nimloop_http.errors import TrailersTooLargeError as TrailersTooLargeError
from nimloop_http.errors import UnknownCodingError as UnknownCodingError
from nimloop_http.errors import UnknownExpectationError as UnknownExpectationError
from nimloop_http.errors import UnknownMethodError as UnknownMethodError
from nimloop_http.errors import UpgradeError as UpgradeError
from nimloop_http.errors import VersionError as VersionError
from nimloop_http.errors import WsgiError as WsgiError
from nimloop_http.forms import FormLimits as FormLimits
from nimloop_http.forms import FormReader as FormReader
from nimloop_http.forms import parse_form as parse_form
from nimloop_http.limits import Limits as Limits
from nimloop_http.limits import Timeouts as Timeouts
from nimloop_http.metrics import ServerStats as ServerStats
from nimloop_http.metrics import metrics_handler as metrics_handler
from nimloop_http.parser import Body as Body
from nimloop_http.parser import End as End
from nimloop_http.parser import Event as Event
from nimloop_http.parser import HttpParser as HttpParser
from nimloop_http.parser import Trailers as Trailers
from nimloop_http.proxy import Client as Client
from nimloop_http.proxy import ProxyHeader as ProxyHeader
from nimloop_http.proxy import TrustedProxies as TrustedProxies
from nimloop_http.proxy import read_proxy_header as read_proxy_header
from nimloop_http.ratelimit import RateLimiter as RateLimiter
from nimloop_http.ratelimit import network_of as network_of
from nimloop_http.request import HttpRequest as HttpRequest
from nimloop_http.request import Params as Params
from nimloop_http.response import HttpResponse as HttpResponse
from nimloop_http.server import HttpServer as HttpServer
from nimloop_http.server import OnHeaders as OnHeaders
from nimloop_http.server import OnRequest as OnRequest
from nimloop_http.server import serve as serve
from nimloop_http.static import StaticFiles as StaticFiles
from nimloop_http.static import serve_file as serve_file
from nimloop_http.static import serve_static as serve_static
from nimloop_http.static import stream_file as stream_file
from nimloop_http.wsgi import WsgiBridge as WsgiBridge

__all__ = [
    "STANDARD_METHODS",
    "BacklogError",
    "BadRequestError",
    "Body",
    "BodyFile",
    "BodyNotReadyError",
    "BodySink",
    "BodyStream",
    "BodyTooLargeError",
    "ByteRange",
    "ChunkLineTooLongError",
    "Client",
    "ContentLengthError",
    "CorsPolicy",
    "End",
    "Event",
    "FieldTooLargeError",
    "FieldsTooLargeError",
    "FileTooLargeError",
    "ForbiddenPathError",
    "Form",
    "FormError",
    "FormLimits",
    "FormReader",
    "Head",
    "Headers",
    "HeadersTooLargeError",
    "HttpError",
    "HttpParser",
    "HttpRequest",
    "HttpResponse",
    "HttpServer",
    "IncompleteMessageError",
    "InvalidHeaderError",
    "JsonError",
    "LimitError",
    "Limits",
    "MisdirectedError",
    "MisuseError",
    "NotAFormError",
    "OnBodyData",
    "OnBodyEnd",
    "OnBodyError",
    "OnHeaders",
    "OnRequest",
    "Params",
    "ParserStateError",
    "Part",
    "PartHeaderTooLongError",
    "ProtocolError",
    "ProxyHeader",
    "ProxyProtocolError",
    "RangeNotSatisfiableError",
    "RateLimiter",
    "RequestBody",
    "RequestLineTooLongError",
    "RequestTimeoutError",
    "ResponseHead",
    "ResponseSentError",
    "ResponseStream",
    "ServerStats",
    "StaleResponseError",
    "StaticFiles",
    "Timeouts",
    "TooManyFilesError",
    "TooManyHeadersError",
    "TooManyPartHeadersError",
    "TooManyPartsError",
    "Trailers",
    "TrailersTooLargeError",
    "TrustedProxies",
    "UnknownCodingError",
    "UnknownExpectationError",
    "UnknownMethodError",
    "UpgradeError",
    "VersionError",
    "WsgiBridge",
    "WsgiError",
    "content_disposition",
    "find_crlf",
    "find_double_crlf",
    "get_file_ext",
    "metrics_handler",
    "network_of",
    "parse_form",
    "parse_range",
    "parse_ranges",
    "read_proxy_header",
    "serve",
    "serve_file",
    "serve_static",
    "stream_file",
]
