"""What TLS has agreed on, for those who ask; apart from `_tls`, so that nobody else has to import `ssl`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    import ssl


def check_host_name(context: ssl.SSLContext, server_hostname: str | None) -> None:
    """Raise ValueError for a client whose context checks names and gets none: `wrap_bio` would let it pass."""
    if context.check_hostname and not server_hostname:
        raise ValueError("the context checks host names: give the server_hostname that the certificate is for")


@final
class TlsInfo:
    """What both sides have agreed on; every answer but `server_name` is None until the handshake is done."""

    __slots__ = ("_ssl",)

    def __init__(self, ssl_object: ssl.SSLObject) -> None:
        self._ssl: Final = ssl_object

    @property
    def version(self) -> str | None:
        """The protocol, such as ``"TLSv1.3"``."""
        return self._ssl.version()

    @property
    def cipher(self) -> str | None:
        """The cipher suite, such as ``"TLS_AES_256_GCM_SHA384"``."""
        found = self._ssl.cipher()
        return None if found is None else found[0]

    @property
    def alpn(self) -> str | None:
        """The protocol to speak inside (RFC 7301), such as ``"http/1.1"``; None when none was agreed on."""
        return self._ssl.selected_alpn_protocol()

    @property
    def server_name(self) -> str | None:
        """The name that our side asked for as a client; on a server, the context's ``sni_callback`` is told it."""
        return self._ssl.server_hostname

    def peer_certificate(self) -> dict[str, object] | None:
        """Return the peer's certificate as `ssl.SSLSocket.getpeercert` does; empty when it was not checked."""
        found: dict[str, object] | None = None
        with contextlib.suppress(ValueError):  # no handshake yet
            if (fields := self._ssl.getpeercert()) is not None:
                found = dict(fields)
        return found

    def peer_certificate_der(self) -> bytes | None:
        """Return the peer's certificate as it was sent, checked or not; None when it sent none."""
        with contextlib.suppress(ValueError):  # no handshake yet
            return self._ssl.getpeercert(binary_form=True)
        return None

    @property
    def ssl_object(self) -> ssl.SSLObject:
        """The standard library's object, for what is not here; read from it, and nothing else."""
        return self._ssl

    def __repr__(self) -> str:
        return f"<TlsInfo {self.version} {self.cipher} alpn={self.alpn}>"
