"""The grammar of HTTP/1.1 messages: each production of RFC 9110 and RFC 9112 above the pattern for it."""

from __future__ import annotations

import re
from typing import Final

# RFC 9110 §5.6.2: token = 1*tchar
_TCHAR: Final = rb"!#$%&'*+\-.^_`|~0-9A-Za-z"
TOKEN: Final = re.compile(rb"[" + _TCHAR + rb"]+")
TOKEN_BYTES: Final = frozenset(
    b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

# RFC 9110 §5.5: field-vchar = VCHAR / obs-text, with SP and HTAB between. No other control character.
_FIELD_VALUE: Final = rb"[\t\x20-\x7e\x80-\xff]*"

# RFC 9112 §5: field-line = field-name ":" OWS field-value OWS. No space before the colon (§5.1), no folding (§5.2).
_FIELD_LINE: Final = rb"[" + _TCHAR + rb"]+:" + _FIELD_VALUE + rb"\r\n"
FIELD_LINE: Final = re.compile(_FIELD_LINE)
FIELD_LINES: Final = re.compile(rb"(?:" + _FIELD_LINE + rb")*\r\n")

# RFC 9112 §3: request-line = method SP request-target SP HTTP-version. The target is checked by form later; here it
# is any visible ASCII but "#", since no form has a fragment.
_TARGET: Final = rb"[\x21\x22\x24-\x7e]+"
REQUEST_LINE: Final = re.compile(rb"([" + _TCHAR + rb"]+) (" + _TARGET + rb") HTTP/([0-9])\.([0-9])\r\n")

# The whole head of a request at once: method, target, minor version. What follows are the field lines.
REQUEST_HEAD: Final = re.compile(
    rb"([" + _TCHAR + rb"]+) (" + _TARGET + rb") HTTP/1\.([01])\r\n(?:" + _FIELD_LINE + rb")*\r\n"
)

# The fields that decide about framing, about the connection, and about what follows the message.
CONTROL_FIELDS: Final = re.compile(
    rb"\r\n(host|content-length|transfer-encoding|connection|expect|upgrade):[ \t]*([^\r]*)", re.IGNORECASE
)

# Every field, once the head is known to be well-formed.
FIELDS: Final = re.compile(rb"\r\n([^:\r]+):[ \t]*([^\r]*)")

# RFC 3986 §3.2.2: a registered name, an IPv4 address or an IP literal in brackets; RFC 9110 §7.2: [ ":" port ].
_HOST: Final = rb"(?:\[[0-9A-Fa-f:.vV]+\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)"
HOST: Final = re.compile(_HOST + rb"(?::[0-9]{0,5})?")

# RFC 9112 §3.2: the four forms of a target.
ABSOLUTE_FORM: Final = re.compile(rb"https?://(" + _HOST + rb"(?::[0-9]{0,5})?)(?:[/?].*)?", re.IGNORECASE)
AUTHORITY_FORM: Final = re.compile(_HOST + rb":[0-9]{1,5}")

# RFC 9110 §8.6: Content-Length = 1*DIGIT. A list of equal values may be taken as one (RFC 9112 §6.3).
# Nineteen digits are more than any limit and keep int() cheap.
CONTENT_LENGTH: Final = re.compile(rb"[0-9]{1,19}")
DIGITS: Final = re.compile(rb"[0-9]+")

# RFC 9112 §7.1: chunk-size [ chunk-ext ], chunk-ext = *( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )
_QUOTED: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
CHUNK_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,16})"
    rb"(?:[ \t]*;[ \t]*[" + _TCHAR + rb"]+(?:[ \t]*=[ \t]*(?:[" + _TCHAR + rb"]+|" + _QUOTED + rb"))?)*"
)

# A CR that no LF follows, or an LF that no CR precedes. A CR at the very end may still get its LF.
BARE_LINE_END: Final = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")

# RFC 9110 §5.6.1: a list is separated by commas; empty elements are to be ignored.
LIST_SEPARATOR: Final = re.compile(rb"[ \t]*,[ \t]*")
