"""Find what the command line is asked to serve: ``module:attr``, a handler of this server or a WSGI application."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import cast

from nimloop_http.server import OnRequest

# PEP 3333 names its parameters so, and what frameworks make of them is close.
_WSGI_NAMES = frozenset({"environ", "env", "start_response", "start_res", "start"})
_ANY = frozenset({inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD})


class ApplicationError(Exception):
    """What is asked for is not there, or cannot be called; the message says which."""


def load_application(name: str) -> object:
    """Import what ``module:attr`` names; attr may have dots.

    Raises `ApplicationError` when there is no such module or attribute, and whatever the module raises itself.
    """
    module_name, colon, path = name.partition(":")
    if not colon or not path or not all(part.isidentifier() for part in [*module_name.split("."), *path.split(".")]):
        raise ApplicationError(f"{name!r} is neither a folder nor module:attr")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            raise ApplicationError(f"there is no module {error.name!r} here") from None
        raise  # one that the module itself has missed
    found: object = module
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ApplicationError(f"{module_name} has no {path}") from None
    if not callable(found):
        raise ApplicationError(f"{name} cannot be called: {type(found).__name__}")
    return found


def is_wsgi(application: object) -> bool:
    """Tell a WSGI application from a handler by the names of its parameters: both are called with two of them.

    A function that passes on whatever it gets, such as `wsgiref.validate.validator` makes, is what it passes it on to.
    """
    candidates = [application]
    for candidate in candidates:
        try:
            parameters = inspect.signature(cast("Callable[[], object]", candidate)).parameters
        except (TypeError, ValueError):
            continue
        if parameters.keys() & _WSGI_NAMES:
            return True
        if isinstance(candidate, FunctionType) and all(one.kind in _ANY for one in parameters.values()):
            wrapped = inspect.getclosurevars(candidate).nonlocals.values()
            candidates += [inner for inner in wrapped if callable(inner) and inner not in candidates]
    return False


def as_handler(application: object) -> OnRequest:
    """Return a handler for what was found."""
    if not is_wsgi(application):
        return cast("OnRequest", application)
    from wsgiref.types import WSGIApplication

    from nimloop_http.wsgi import WsgiBridge

    return WsgiBridge(cast("WSGIApplication", application)).serve
