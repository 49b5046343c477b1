"""Builds what of this package can be compiled. The same file in every package, but for the names at its beginning.

``NIMLOOP_EXTENSION`` chooses:

========  =====================================================================================
off       nothing: a pure wheel that runs everywhere
auto      the C files, or with a warning nothing, where there is no compiler: the default
require   the C files, or an error
full      the C files, and the Python modules that run for every event by mypyc, or an error
========  =====================================================================================

What is left uncompiled runs as the Python that it was compiled from, or as the twin of the C file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "nimloop_core"
C_MODULES = ("backends/_epoll_c",)
C_PLATFORMS = ("linux",)
COMPILED_MODULES = ("_deadlines", "_inbox", "_iteration", "_loop", "_signals", "_stats", "_timers", "_watchers")

_MODES = ("off", "auto", "require", "full")
_MYPY = "mypy==2.4.1"  # exact: the compiler is a part of it
_ABI3 = "0x030b0000"  # the oldest Python that is supported

# Run in a folder of its own, because mypyc leaves files where it works.
_MYPYC = """
import sys
from mypyc.build import mypycify
from setuptools import setup
package, *modules = sys.argv[1:]
modules = ["--strict", "--no-warn-unused-ignores", *modules]
extensions = mypycify(modules, opt_level="3", debug_level="0", group_name=package)
if sys.platform != "win32":
    for extension in extensions:  # nobody replaces a function of ours, so that calls between them need no table
        extension.extra_compile_args.append("-fno-semantic-interposition")
setup(
    name=package,
    packages=[],
    ext_modules=extensions,
    script_args=["-q", "build_ext", "--build-lib", "lib"],
)
"""


class ExtensionHook(BuildHookInterface[Any]):
    """Adds compiled modules to a wheel, or puts them into the source tree of an editable one."""

    PLUGIN_NAME = "custom"
    scratch: str = ""

    def dependencies(self) -> list[str]:
        """Return what the build needs beyond setuptools: mypyc looks into the packages below this one."""
        return [_MYPY, *self.metadata.core.dependencies] if self.mode == "full" else []

    @property
    def mode(self) -> str:
        """What the user wants."""
        mode = os.environ.get("NIMLOOP_EXTENSION", "auto")
        if mode not in _MODES:
            raise ValueError(f"NIMLOOP_EXTENSION is {' or '.join(_MODES)}, not {mode!r}")
        return mode

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and tell hatchling what came of it."""
        mode = self.mode
        if mode == "off" or (mode == "auto" and sys.implementation.name != "cpython"):
            return  # PyPy's own compiler makes the Python faster than a call of C
        self.scratch = tempfile.mkdtemp(prefix="nimloop-")
        try:
            # In a source tree each Python gets its own: one that is free-threaded would take the others', and crash.
            libraries = self.compile_c(limited=mode != "full" and version != "editable")
            if mode == "full" and version != "editable":  # there the source is to be edited, and run as it is
                libraries += self.compile_python()
        except BaseException as error:
            shutil.rmtree(self.scratch)  # finalize is not called after an exception
            if mode != "auto" or not isinstance(error, Exception):
                raise
            self.app.display_warning(f"{PACKAGE} is built without its C part, slower and otherwise the same: {error}")
            return
        if version == "editable":
            for library in libraries:
                place = Path(self.root, "src", library.relative_to(self.built))
                fresh = shutil.copy2(library, place.with_name(f"{place.name}.new"))
                Path(fresh).replace(place)  # not written over: a process may be running with the old one
        elif libraries:
            for library in libraries:
                build_data["force_include"][str(library)] = library.relative_to(self.built).as_posix()
            build_data["pure_python"] = False
            if mode != "full" and self.has_limited_api:
                build_data["tag"] = f"cp311-abi3-{self.platform}"
            else:
                build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Leave nothing behind."""
        if self.scratch:
            shutil.rmtree(self.scratch, ignore_errors=True)

    @property
    def built(self) -> Path:
        """Where the compiled modules are, each at its place in the package."""
        return Path(self.scratch, "lib")

    @property
    def platform(self) -> str:
        """The platform that a wheel is tagged with, as hatchling tells it: on macOS it may not be this machine's."""
        tag: str = self.build_config.builder.get_best_matching_tag()
        return tag.rpartition("-")[2]

    @property
    def has_limited_api(self) -> bool:
        """Whether one library serves all later Pythons; free-threaded ones have no such thing before 3.15."""
        return not sysconfig.get_config_var("Py_GIL_DISABLED")

    def compile_c(self, *, limited: bool) -> list[Path]:
        """Compile each C file into a module of its own, for this Python only or for all from 3.11 on."""
        from setuptools import Distribution, Extension
        from setuptools.command.build_ext import build_ext

        if not sys.platform.startswith(C_PLATFORMS):
            return []
        limited = limited and self.has_limited_api
        extensions = [
            Extension(
                f"{PACKAGE}.{module.replace('/', '.')}",
                [str(Path(self.root, "src", PACKAGE, f"{module}.c"))],
                define_macros=[("Py_LIMITED_API", _ABI3)] if limited else [],
                py_limited_api=limited,
            )
            for module in C_MODULES
        ]
        command = build_ext(Distribution({"name": PACKAGE, "ext_modules": extensions}))
        command.build_lib = str(self.built)
        command.build_temp = str(Path(self.scratch, "tmp"))
        command.ensure_finalized()
        command.run()
        return [Path(output) for output in command.get_outputs()]

    def compile_python(self) -> list[Path]:
        """Compile the modules with mypyc, all of them together, so that they call each other directly."""
        work = Path(self.scratch, "work")
        shutil.copytree(
            Path(self.root, "src", PACKAGE),
            work / PACKAGE,
            ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.pyd"),
        )
        modules = [f"{PACKAGE}/{module}.py" for module in COMPILED_MODULES]
        subprocess.run([sys.executable, "-c", _MYPYC, PACKAGE, *modules], cwd=work, check=True)
        shutil.copytree(work / "lib", self.built, dirs_exist_ok=True)
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        return [self.built / path.relative_to(work / "lib") for path in (work / "lib").rglob(f"*{suffix}")]
