"""A copy of farm in which the server's job path is machine code: made by mypyc from the same sources, used where it is
there and of exactly these sources, done without everywhere else. Why: `farm/decisions/0016-compiled.md`.

`python -m farm.compiled` (`bin/compile`) makes it. It needs mypy and setuptools, a C compiler and Python's headers, and
takes about a minute.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from hashlib import sha256

INTERPRETED = "FARM_INTERPRETED"  # set to anything: the server is not to use it
SUFFIX = ".py"

# What a job goes through between two system calls. No interpreted class may have a compiled one as its base: that rules
# out errors.py, the stores, and the journal, of which the simulator has its own.
MODULES = (
    "loop protocol/* broker/* server/connection server/garbage server/heartbeat server/pressure server/promises "
    "server/server server/upkeep server/watchdog store/memory_journal store/rows "
    "store/tables"
)


def sources(root: str) -> list[str]:
    """The paths of a package's modules below `root`, in order."""
    found = []
    for directory, directories, names in os.walk(root):
        directories[:] = [name for name in directories if name != "__pycache__"]
        found += [os.path.join(directory, name) for name in names if name.endswith(SUFFIX)]
    return sorted(found)


def _home() -> str:
    """Where copies lie: beside this interpreter's packages, and no package itself."""
    return os.path.join(sysconfig.get_path("purelib"), "farm-compiled")


def place(root: str) -> str:
    """Where the copy of the package at `root` lies, if there is one: under a name that changes with each letter of the
    sources and with the interpreter."""
    digest = sha256(sys.version.encode())
    for path in sources(root):
        with open(path, "rb") as file:
            content = file.read()
        digest.update(b"%s %d\n" % (os.path.relpath(path, root).encode(), len(content)))
        digest.update(content)
    return os.path.join(_home(), digest.hexdigest()[:16])


def use() -> None:
    """From now on `farm` means the copy, where there is one that this user may read. What has been imported of farm is
    imported anew."""
    if os.environ.get(INTERPRETED):
        return
    there = place(os.path.dirname(__file__))
    if os.access(os.path.join(there, "farm", "__init__.py"), os.R_OK):
        sys.path.insert(0, there)
        for name in [name for name in sys.modules if name == "farm" or name.startswith("farm.")]:
            del sys.modules[name]


def note() -> str:
    """For the server's log: whether its job path is machine code; "" where nobody has asked for that."""
    from farm import loop

    if not str(loop.__file__).endswith(SUFFIX):
        return "compiled"
    if os.environ.get(INTERPRETED) or not os.path.isdir(_home()):
        return ""
    return "interpreted, for what is compiled is of other sources; bin/compile makes it anew"


def _modules(root: str) -> list[str]:
    """The sources that are compiled, below `root`."""
    from fnmatch import fnmatch

    wanted = [os.path.join(root, *f"{pattern}{SUFFIX}".split("/")) for pattern in MODULES.split()]
    packages = os.sep + "__init__" + SUFFIX
    found = [path for path in sources(root) if not path.endswith(packages)]
    return [path for path in found if any(fnmatch(path, pattern) for pattern in wanted)]


_BUILD = """
import sys
from mypyc.build import mypycify
from setuptools import setup

modules = sys.argv[1:]
options = ["--strict", "--no-incremental", "--python-version", "%d.%d" % sys.version_info[:2]]
extensions = mypycify(options + modules, opt_level="3", debug_level="0")
setup(name="farm", packages=[], ext_modules=extensions, script_args=["-q", "build_ext", "--inplace"])
"""


_NEEDED = "apt install gcc python3-dev"


def build() -> str:
    """Make the copy, and remove those of other sources. Returns where it is; raises FarmError."""
    import shutil
    import subprocess

    from farm.errors import EXIT_UNAVAILABLE, FarmError

    root = os.path.dirname(os.path.abspath(__file__))
    there = place(root)
    if os.path.isdir(there):
        return there
    parent = os.path.dirname(there)
    new = f"{there}.new{os.getpid()}"
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    try:
        shutil.copytree(root, os.path.join(new, "farm"), ignore=ignored)
        modules = [os.path.relpath(path, new) for path in _modules(os.path.join(new, "farm"))]
        argv = [sys.executable, "-c", _BUILD, *modules]
        made = subprocess.run(argv, cwd=new, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace")
        if made.returncode:
            words = [line for line in made.stdout.splitlines() if "rror" in line] or made.stdout.splitlines() or [""]
            needed = "pip install mypy setuptools" if "ModuleNotFoundError" in words[-1] else _NEEDED
            said = f"could not compile farm: {words[-1].strip()}"
            raise FarmError(said, f"{needed}; the server works without", status=EXIT_UNAVAILABLE)
        shutil.rmtree(os.path.join(new, "build"))
        for name in os.listdir(parent):
            if os.path.join(parent, name) != new:
                shutil.rmtree(os.path.join(parent, name), ignore_errors=True)
        os.rename(new, there)
    except OSError as error:
        raise FarmError(f"could not compile farm: {error}", "", status=EXIT_UNAVAILABLE) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return there


def main() -> None:
    """`python -m farm.compiled`: make the copy, or say why not."""
    from farm.errors import FarmError

    print("farm: compiling the server's job path (about a minute)", file=sys.stderr)
    try:
        build()
    except FarmError as error:
        print(f"farm: error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        sys.exit(error.status)
    print("farm: compiled; `farm server` uses it from its next start", file=sys.stderr)


if __name__ == "__main__":
    main()
