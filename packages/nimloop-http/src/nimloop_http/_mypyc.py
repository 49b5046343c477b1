"""What mypyc is told about a class beyond its types; the interpreter need not know."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr
else:

    def mypyc_attr(**_: object) -> object:
        """Leave the class as it is: `mypy_extensions` is not needed to run."""
        return lambda cls: cls
