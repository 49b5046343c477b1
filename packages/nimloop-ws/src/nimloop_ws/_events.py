"""What a parser finds besides whole messages, which are str and bytes.

`__match_args__` is said to be the class's: else mypyc gives one to each instance, and no pattern matches.
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal, final


@final
class Ping:
    """A ping, to be answered with a pong."""

    __slots__ = ("payload",)
    __match_args__: ClassVar[tuple[Literal["payload"]]] = ("payload",)

    def __init__(self, payload: bytes) -> None:
        self.payload: Final[bytes] = payload
        """Up to 125 bytes."""

    def __repr__(self) -> str:
        return f"Ping({self.payload!r})"


@final
class Pong:
    """A pong, asked for or not."""

    __slots__ = ("payload",)
    __match_args__: ClassVar[tuple[Literal["payload"]]] = ("payload",)

    def __init__(self, payload: bytes) -> None:
        self.payload: Final[bytes] = payload
        """Up to 125 bytes."""

    def __repr__(self) -> str:
        return f"Pong({self.payload!r})"


@final
class Close:
    """A close frame; nothing that follows counts."""

    __slots__ = ("code", "reason")
    __match_args__: ClassVar[tuple[Literal["code"], Literal["reason"]]] = ("code", "reason")

    def __init__(self, code: int, reason: str) -> None:
        self.code: Final[int] = code
        """1005 when the frame has none."""
        self.reason: Final[str] = reason
        """Perhaps ``""``."""

    def __repr__(self) -> str:
        return f"Close({self.code}, {self.reason!r})"


@final
class Fragment:
    """A piece of a message, as it came; text is cut between characters, and may be empty."""

    __slots__ = ("data", "last")
    __match_args__: ClassVar[tuple[Literal["data"], Literal["last"]]] = ("data", "last")

    def __init__(self, data: str | bytes, last: bool) -> None:  # noqa: FBT001
        self.data: Final[str | bytes] = data
        """A piece of text, or of bytes."""
        self.last: Final[bool] = last
        """Whether the message ends here."""

    def __repr__(self) -> str:
        return f"Fragment({self.data!r}, {self.last})"


Event = str | bytes | Ping | Pong | Close | Fragment
"""What a parser gives: a message is a str or bytes."""
