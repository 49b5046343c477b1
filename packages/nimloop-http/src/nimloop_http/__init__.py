"""nimloop-http: an HTTP/1.1 parser and callback server, and static files, on nimloop-net."""

from __future__ import annotations

from nimloop_http._bodystream import BodyStream as BodyStream
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
    "Body",
    "BodyFile",
    "BodySink",
    "BodyStream",
    "ByteRange",
    "Client",
    "CorsPolicy",
    "End",
    "Event",
    "Form",
    "FormLimits",
    "FormReader",
    "Head",
    "Headers",
    "HttpParser",
    "HttpRequest",
    "HttpResponse",
    "HttpServer",
    "Limits",
    "OnHeaders",
    "OnRequest",
    "Params",
    "Part",
    "ProxyHeader",
    "RateLimiter",
    "RequestBody",
    "ResponseHead",
    "ResponseStream",
    "ServerStats",
    "StaticFiles",
    "Timeouts",
    "Trailers",
    "TrustedProxies",
    "WsgiBridge",
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
