"""The grammar of HTTP/1.1 messages: each production of RFC 9110 and RFC 9112 above the pattern for it.

Heads are matched as text in which each character is one byte (ISO 8859-1), because their parts are wanted as text;
what looks at a buffer in place is matched as bytes.
"""

from __future__ import annotations

import re
from typing import Final


def _bytes(pattern: str) -> re.Pattern[bytes]:
    return re.compile(pattern.encode("latin-1"))


# RFC 9110 §5.6.2: token = 1*tchar
_TCHAR: Final = r"!#$%&'*+\-.^_`|~0-9A-Za-z"
TOKEN: Final = re.compile(rf"[{_TCHAR}]+")
TOKEN_BYTES: Final = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")

# RFC 9110 §5.5: field-vchar = VCHAR / obs-text, with SP and HTAB between. No other control character.
_FIELD_VALUE: Final = "[\t\x20-\x7e\x80-\xff]*+"
FIELD_VALUE: Final = re.compile(_FIELD_VALUE)

# RFC 9112 §5: field-line = field-name ":" OWS field-value OWS. No space before the colon (§5.1), no folding (§5.2).
_FIELD_LINE: Final = rf"[{_TCHAR}]++:{_FIELD_VALUE}\r\n"
FIELD_LINE: Final = _bytes(_FIELD_LINE)

# RFC 9112 §3: request-line = method SP request-target SP HTTP-version. The target is checked by form later; here it
# is any visible ASCII but "#", since no form has a fragment.
_TARGET: Final = r"[\x21\x22\x24-\x7e]++"
REQUEST_LINE: Final = _bytes(rf"([{_TCHAR}]+) ({_TARGET}) HTTP/([0-9])\.([0-9])\r\n")

# RFC 9112 §4: status-line = HTTP-version SP status-code SP [ reason-phrase ]. Many leave out the last space with the
# reason; there is only one way to read that. No status is below 100 (RFC 9110 §15).
_STATUS: Final = "([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*+))?+\\r\\n"
STATUS_LINE: Final = _bytes(rf"HTTP/([0-9])\.([0-9]) {_STATUS}")
RESPONSE_HEAD: Final = _bytes(rf"HTTP/1\.([01]) {_STATUS}(?:{_FIELD_LINE})*+\r\n")

# The head of a request: method, target, minor version. What follows are the field lines.
# Possessive repetition ("++") takes what it can and never gives it back: no byte is matched twice.
REQUEST_HEAD: Final = _bytes(rf"([{_TCHAR}]++) ({_TARGET}) HTTP/1\.([01])\r\n(?:{_FIELD_LINE})*+\r\n")

# RFC 3986 §3.2.2: a registered name without percent-encoding, or an IPv4 address; RFC 9110 §7.2: [ ":" port ].
_PLAIN_HOST: Final = r"[A-Za-z0-9\-._~!$&'()*+,;=]*+(?::[0-9]{0,5}+)?+"
PLAIN_HOST: Final = _bytes(_PLAIN_HOST)

# The head that nearly every request has: HTTP/1.1, a path, Host first and nowhere else (RFC 9110 §7.2 recommends it),
# and no other field that decides about framing or connection but one that asks for what HTTP/1.1 does anyway. The names
# of those fields begin with co, ex, ho, tr or up: another beginning is told apart at once, the rest by comparison.
_PLAIN_FIELD: Final = (
    rf"(?:[!#$%&'*+\-.^_`|~0-9ABDFGI-SV-Zabdfgi-sv-z]"
    r"|[uU](?=[^pP])|[cC](?=[^oO]|o[^n])|[tT](?=[^rR])|[eE](?=[^xX])|[hH](?=[^oO])"
    rf"|(?!(?i:host|content-length|connection|transfer-encoding|expect|upgrade):)[cehtuCEHTU]"
    rf"|(?=[cC]onnection:[ \t]*+[kK]eep-[aA]live\r)[cC]"
    rf")[{_TCHAR}]*+:{_FIELD_VALUE}\r\n"
)
PLAIN_HEAD: Final = _bytes(
    rf"(?!CONNECT )([A-Z]++) (/[\x21\x22\x24-\x7e]*+) HTTP/1\.1\r\n"
    rf"[hH]ost:[ \t]*+{_PLAIN_HOST}[ \t]*+\r\n(?:{_PLAIN_FIELD})*+\r\n"
)

# The fields that decide about framing, about the connection, and about what follows the message.
CONTROL_FIELDS: Final = re.compile(
    rb"\r\n(?=[cehtu])(host|content-length|transfer-encoding|connection|expect|upgrade):[ \t]*+([^\r]*+)",
    re.IGNORECASE,
)

# Every field, once the head is known to be well-formed.
FIELDS: Final = re.compile(r"\r\n([^:\r]++):[ \t]*+([^\r]*+)")

# RFC 3986 §3.2.2: a registered name, an IPv4 address or an IP literal in brackets; RFC 9110 §7.2: [ ":" port ].
_HOST: Final = r"(?:\[[0-9A-Fa-f:.vV]+\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)"
HOST: Final = re.compile(rf"{_HOST}(?::[0-9]{{0,5}})?")

# RFC 9112 §3.2: the forms of a target besides the one that begins with a slash, and the asterisk.
# Unlike that of a Host field, their host must not be empty (RFC 9110 §4.2.1 and §9.3.6).
ABSOLUTE_FORM: Final = re.compile(
    rf"https?://(?=[^:/?])({_HOST}(?::[0-9]{{0,5}})?)(?:[/?].*)?", re.IGNORECASE | re.ASCII
)
AUTHORITY_FORM: Final = re.compile(rf"(?!:){_HOST}:([0-9]{{1,5}})")

# RFC 9110 §8.6: Content-Length = 1*DIGIT. A list of equal values may be taken as one (RFC 9112 §6.3).
# Nineteen digits are more than any limit and keep int() cheap.
CONTENT_LENGTH: Final = re.compile(r"[0-9]{1,19}")
DIGITS: Final = re.compile(r"[0-9]+")

# RFC 9112 §7.1: chunk-size [ chunk-ext ], chunk-ext = *( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )
_QUOTED: Final = '"(?:[\t\x20\x21\x23-\x5b\\x5d-\x7e\x80-\xff]|\\\\[\t\x20-\x7e\x80-\xff])*"'
CHUNK_LINE: Final = _bytes(
    r"([0-9A-Fa-f]{1,16})"
    rf"(?:[ \t]*;[ \t]*[{_TCHAR}]+(?:[ \t]*=[ \t]*(?:[{_TCHAR}]+|{_QUOTED}))?)*"
)

# A size and nothing else, as nearly every chunk has it.
PLAIN_CHUNK: Final = _bytes(r"([0-9A-Fa-f]{1,16})\r\n")

# A CR that no LF follows, or an LF that no CR precedes. A CR at the very end may still get its LF.
BARE_LINE_END: Final = _bytes(r"(?<!\r)\n|\r(?!\n|\Z)")
