"""What a parser tells, besides heads."""

from __future__ import annotations

from typing import ClassVar, Final, Literal, final

from nimloop_http._head import Head, ResponseHead
from nimloop_http._headers import Headers


@final
class Body:
    """A piece of the body."""

    __slots__ = ("data",)
    # Said to be the class's: else mypyc, where it compiles this, gives one to each instance, and no pattern matches.
    __match_args__: ClassVar[tuple[Literal["data"]]] = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data: Final[bytes] = data
        """Never empty."""


@final
class Trailers:
    """The trailer fields, without those that may not come so late."""

    __slots__ = ("headers",)
    __match_args__: ClassVar[tuple[Literal["headers"]]] = ("headers",)

    def __init__(self, headers: Headers) -> None:
        self.headers: Final[Headers] = headers
        """The fields."""


@final
class End:
    """The message is complete."""

    __slots__ = ()


END: Final = End()

Event = Head | ResponseHead | Body | Trailers | End
"""What a parser gives."""
