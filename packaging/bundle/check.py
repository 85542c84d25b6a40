"""What must hold of a bundle before anybody gets it. Each check raises `BuildError`."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from typing import TYPE_CHECKING

from bundle import contents
from bundle.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TOOLS = {"cc": "gcc", "objdump": "binutils", "objcopy": "binutils", "ldd": "libc-bin"}
"""What a build on Linux starts, to the Debian package that has it."""

MAY_BE_MISSING = {
    "of another system": (
        r"_overlapped|_scproxy|_winapi|_winreg|winreg|msvcrt|nt|vms_lib|java(\..*)?|org(\..*)?|"
        r"jnius|_watchdog_fsevents|win32evtlog(util)?|psutil\._ps\w+|psutil\._psutil_\w+|"
        r"win32com(\..*)?|pywintypes|pythoncom|Foundation|ctypes\.macholib(\..*)?|"
        r"fcntl|grp|pwd|posix|resource|termios|syslog|_posixsubprocess|_posixshmem"
    ),
    "of another Python": (
        r"_dummy_thread|_frozen_importlib_external|annotationlib|asyncio\.Default\w+|_typeshed.*"
    ),
    "a name, no module, that numpy, pydantic and rich make when they are imported": (
        r"numpy\._core\.\w+|numpy\.ma\.mrecords|pydantic\.\w+"
    ),
    "an optional extra of rich, numpy, pydantic or Pillow that nothing here uses": (
        r"IPython(\..*)?|ipywidgets|attr|linkify_it|chardet|colorama|threadpoolctl|yaml|"
        r"defusedxml|email_validator|numpy\._distributor_init_local"
    ),
    "GNOME's library, which send2trash uses where a desktop has it for the system's Python": r"gi",
    "another transport of httpx": r"h2(\..*)?|trio(\..*)?",
    "another implementation of protobuf": (
        r"google\.protobuf\.(enable_deterministic_proto_serialization|pyext\._message|"
        r"internal\._api_implementation)"
    ),
    "an optional extra of prometheus-client": r"snappy",
    "an optional extra of uvicorn, Starlette or anyio that nothing here uses": (
        r"(websockets|wsproto|zttp|gunicorn|watchfiles|a2wsgi|dotenv|uvloop|zuvloop|"
        r"winloop|exceptiongroup|sniffio|curio|outcome|_pytest|multipart|python_multipart|itsdangerous|"
        r"concurrent\.interpreters|_interpreters|_interpqueues|pathlib\.types)(\..*)?"
    ),
    "left out of uvicorn, Starlette and anyio on purpose": (
        r"uvicorn\.(workers|protocols|supervisors|loops)(\..*)?|"
        r"starlette\.(middleware\.sessions|testclient|templating|schemas)|anyio\._backends\._trio"
    ),
    "made when multiprocessing is imported, or of its parts that uvicorn has no use for here": (
        r"multiprocessing\.\w+|xmlrpc\.client"
    ),
    "PyInstaller's own, which its scripts for a start name that the spec leaves out": (
        r"pyimod02_importers"
    ),
    "another engine of pathspec": r"re2|hyperscan",
    "of onnxruntime's training and GPU packages": (
        r"onnxruntime\.(capi\.version_info|training\..*|transformers\..*)"
    ),
}
"""Why a module may be missing, and a pattern of such modules' names."""

FORBIDDEN = re.compile(
    r"(torch|onnx|optimum|transformers|quantize|safetensors|pip|setuptools|pytest|hypothesis|mypy|"
    r"tkinter|unittest|doctest|numpy\.(f2py|distutils|testing|random|fft|ma)|PIL\.Image(Tk|Qt|Font)|"
    r"onnxruntime\.(tools|quantization|transformers))(\.|$)|"
    r"(^|(?<!jinja2)\.)tests?(\.|$)"
)
"""Modules that would only make the bundle larger; `onnx` is not `onnxruntime`, and `jinja2.tests`
are what templates test values with."""

_C_LIBRARY = re.compile(
    r"(lib(c|m|dl|rt|pthread|mvec|resolv|util|nsl|anl)|ld-linux[\w-]*|ld-musl[\w-]*)\.so|linux-vdso"
)
_PARTS = (
    ("onnxruntime", r"_internal/onnxruntime/"),
    ("numpy with OpenBLAS", r"_internal/numpy"),
    ("HEIC (pillow-heif, libheif, x265)", r"_internal/_?pillow_heif"),
    ("Pillow with its codecs", r"_internal/(PIL/|pillow)"),
    ("Python modules (the program itself)", r"nsfwscan(-main|\.exe)?$"),
    ("Python", r"_internal/(libpython|python3|base_library)"),
    ("model", r"models/"),
)


def missing_tools() -> dict[str, str]:
    """Return what a build on Linux needs and this machine lacks, to the Debian package with it."""
    missing = {tool: package for tool, package in TOOLS.items() if shutil.which(tool) is None}
    # Debian's Python is linked statically and does without its shared library, a bundle does not.
    library = sysconfig.get_config_var("INSTSONAME") or ""
    if ".so" in library:
        try:
            ctypes.CDLL(library)
        except OSError:
            missing[library] = library.partition(".so")[0]
    return missing


def tools() -> None:
    """Look whether what a build on Linux needs is there. Raises `BuildError`."""
    if sys.platform == "linux" and (missing := missing_tools()):
        named = ", ".join(f"{tool} (of the package {has})" for tool, has in missing.items())
        raise BuildError(f"these are needed first: {named}")


def native_files(folder: str) -> list[str]:
    """Return the paths of all programs and native libraries of Linux below `folder`."""
    found = []
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            if os.path.islink(path):
                continue
            with open(path, "rb") as file:
                if file.read(4) == contents.ELF:
                    found.append(path)
    return sorted(found)


def warnings(path: str) -> None:
    """Read what PyInstaller did not find; raise when a module is missing that has no excuse."""
    excused = re.compile("|".join(MAY_BE_MISSING.values()))
    unexcused = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            found = re.match(r"missing module named '?([\w.]+)'? - (.*)", line)
            if found and not excused.fullmatch(found[1]):
                unexcused.append(f"{found[1]}, {found[2]}")
    if unexcused:
        raise BuildError(
            "PyInstaller did not find these modules; add them to the environment, or say in "
            "check.MAY_BE_MISSING why they may be missing:\n  " + "\n  ".join(unexcused)
        )


def natives(folder: str) -> None:
    """Look whether every native library finds what it needs, inside or in the C library."""
    if sys.platform != "linux":
        return
    inside = os.path.realpath(folder) + os.sep
    problems = []
    for path in native_files(folder):
        for name, found in contents.libraries(path, folder).items():
            within = found and os.path.realpath(found).startswith(inside)
            if not within and not _C_LIBRARY.match(name):
                problems.append(f"{os.path.relpath(path, folder)} needs {name}: {found or 'none'}")
    if problems:
        raise BuildError("libraries are missing from the bundle:\n  " + "\n  ".join(problems))


def data_files(folder: str, package: str) -> None:
    """Look whether the files of the installed package that are no modules are in the bundle."""
    missing = [
        os.path.relpath(path, package)
        for path in _files(package)
        if not path.endswith((".py", ".pyc", ".pyi"))
        and not os.path.isfile(
            os.path.join(folder, "_internal", "nsfwscan", os.path.relpath(path, package))
        )
    ]
    if missing:
        raise BuildError(f"data files are missing from the bundle: {', '.join(missing)}")


def leaks(folder: str, modules: Iterable[str]) -> None:
    """Look whether something is inside that must not be; `modules` are frozen into the program."""
    names = {name for name in modules if FORBIDDEN.search(name)}
    for path in _files(os.path.join(folder, "_internal")):
        inner = os.path.relpath(path, os.path.join(folder, "_internal"))
        if ".dist-info" not in inner and FORBIDDEN.search(
            os.path.splitext(inner)[0].replace(os.sep, ".")
        ):
            names.add(inner)
    if names:
        raise BuildError(f"these must not be in the bundle: {', '.join(sorted(names)[:20])}")


def starts(folder: str, version: str) -> None:
    """Start the program with nothing of this computer, and look at what it says."""
    program = os.path.join(folder, "nsfwscan.exe" if os.name == "nt" else "nsfwscan")
    expected: list[tuple[list[str], Callable[[str], bool]]] = [
        (["--version"], lambda said: said == f"nsfwscan {version}\n"),
        (["--help"], lambda said: "selftest" in said),
        (["models", "list"], lambda said: "installed" in said),
        (["doctor"], lambda said: "of unknown version" not in said),
        (["selftest", "--offline"], lambda said: "all is well" in said),
    ]
    with tempfile.TemporaryDirectory() as home:
        env = {"NSFWSCAN_HOME": home, "PATH": ""}
        if os.name == "nt":
            env["SYSTEMROOT"] = os.environ["SYSTEMROOT"]
        for arguments, is_right in expected:
            done = subprocess.run(
                [program, *arguments], env=env, capture_output=True, encoding="utf-8",
                check=False, timeout=120,
            )  # fmt: skip
            if done.returncode != 0 or done.stderr or not is_right(done.stdout):
                raise BuildError(
                    f"the bundle's `nsfwscan {' '.join(arguments)}` ended with {done.returncode}:\n"
                    f"{done.stdout}{done.stderr}"
                )


def weights(folder: str) -> str:
    """Return a table of what each big part weighs, in MB, biggest first."""
    sums: dict[str, int] = {}
    for path in _files(folder):
        inner = os.path.relpath(path, folder).replace(os.sep, "/")
        part = next((name for name, pattern in _PARTS if re.match(pattern, inner)), "the rest")
        sums[part] = sums.get(part, 0) + os.path.getsize(path)
    sums["all"] = sum(sums.values())
    rows = sorted(sums.items(), key=lambda row: -row[1])
    return "\n".join(f"{size / 1e6:8.1f} MB  {part}" for part, size in rows)


def _files(folder: str) -> list[str]:
    return [
        os.path.join(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if not os.path.islink(os.path.join(parent, name))
    ]
