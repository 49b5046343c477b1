"""Certificates for the tests of TLS, made once: an authority of our own, and what it has signed, well and badly."""

from __future__ import annotations

import datetime as dt
import functools
import ssl

import trustme


@functools.cache
def authority() -> trustme.CA:
    """Return the authority that everybody here trusts."""
    return trustme.CA()


@functools.cache
def certificate(name: str = "localhost", *, expired: bool = False, chain: bool = False) -> trustme.LeafCert:
    """Return a certificate for `name`, perhaps expired, perhaps signed through an intermediate authority."""
    signer = authority().create_child_ca() if chain else authority()
    if expired:
        start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
        return signer.issue_cert(name, not_before=start, not_after=start + dt.timedelta(days=30))
    return signer.issue_cert(name)


def server_context(name: str = "localhost", *, expired: bool = False, chain: bool = False) -> ssl.SSLContext:
    """Make a context of a server with such a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate(name, expired=expired, chain=chain).configure_cert(context)
    return context


def client_context(*, trusting: bool = True, name: str | None = None) -> ssl.SSLContext:
    """Make a context of a client that trusts our authority, or nobody, and has a certificate of its own for `name`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if trusting:
        authority().configure_trust(context)
    if name is not None:
        certificate(name).configure_cert(context)
    return context
