"""Who has switched the GIL on again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from tests.mt.conftest import Provoked

from nimloop_mt import ModeError, _interpreter
from nimloop_mt._interpreter import choose_mode, extensions, gil_culprits, has_gil, is_free_threaded, switches_gil_on


def test_culprits_are_those_found_guilty() -> None:
    """Each module is tried, and the order is kept."""
    assert gil_culprits(["a", "b", "c"], {"c", "a"}.__contains__) == ["a", "c"]


def test_what_cannot_be_imported_is_not_guilty() -> None:
    """An import error has an exit status, too: that of a GIL."""
    assert not switches_gil_on("no_module_of_that_name")


def test_the_standard_library_is_not_suspected() -> None:
    """Its own libraries do without."""
    assert not {"_ssl", "_socket", "math"} & set(extensions())


def test_the_mode_is_what_the_interpreter_and_the_system_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a way to inherit descriptors there are threads, whatever the interpreter; who insists is told."""
    assert choose_mode("auto") == ("processes" if has_gil() else "threads")
    assert [choose_mode("threads"), choose_mode("processes")] == ["threads", "processes"]
    monkeypatch.setattr("nimloop_mt._interpreter._INHERITS", False)
    assert choose_mode("auto") == "threads"
    with pytest.raises(ModeError, match="use threads"):
        choose_mode("processes")


def test_an_interpreter_that_cannot_be_started_finds_nobody_guilty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embedded ones may have no program of their own."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert not switches_gil_on("json")


@pytest.mark.parametrize("culprits", [["_slow", "_old"], []])
def test_a_free_threaded_interpreter_says_why_it_has_a_gil(
    culprits: list[str], monkeypatch: pytest.MonkeyPatch, provoked: Provoked
) -> None:
    """Workers are processes then, unless threads are wanted; without the lock they are threads."""
    monkeypatch.setattr(_interpreter, "is_free_threaded", lambda: True)
    monkeypatch.setattr(_interpreter, "has_gil", lambda: True)
    monkeypatch.setattr(_interpreter, "gil_culprits", lambda _names: culprits)
    provoked(f"the GIL was switched on {'again by _slow, _old' if culprits else 'by PYTHON_GIL=1'}")
    assert choose_mode("auto") == "processes"
    monkeypatch.setattr(_interpreter, "has_gil", lambda: False)
    assert [choose_mode("auto"), choose_mode("threads")] == ["threads", "threads"]


GUILTY = """
#include <Python.h>
static struct PyModuleDef guilty = {PyModuleDef_HEAD_INIT, "guilty", NULL, 0, NULL, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit_guilty(void) { return PyModuleDef_Init(&guilty); }
"""
PROGRAM = """
import logging, sys
logging.basicConfig(format="%(message)s")
import guilty
from nimloop_mt import MultiThreadHttpServer
for mode in ("auto", "threads"):
    print(MultiThreadHttpServer("nowhere:x", workers=1, mode=mode).mode)
"""


@pytest.mark.skipif(not is_free_threaded() or shutil.which("cc") is None, reason="needs a Python without a GIL, and cc")
def test_m3_a_library_that_switches_the_gil_on_is_named(tmp_path: Path) -> None:
    """M-3: one in C that does not say it could do without; workers are processes then, unless threads are wanted."""
    source = tmp_path / "guilty.c"
    source.write_text(GUILTY)
    library = source.with_suffix(str(sysconfig.get_config_var("EXT_SUFFIX")))
    include = sysconfig.get_path("include")
    subprocess.run(["cc", "-shared", "-fPIC", f"-I{include}", str(source), "-o", str(library)], check=True)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert said.stdout == "processes\nthreads\n"
    why = "the GIL was switched on again by guilty, which cannot do without"
    assert said.stderr.splitlines() == [f"workers are processes, for {why}", f"workers are threads, but {why}"]
