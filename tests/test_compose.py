"""deploy/ without Docker: its commands, settings, files and versions match the code."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml
from packaging.version import Version
from prefect.settings.legacy import _get_valid_setting_names
from prefect.settings.models.root import Settings

from alphapivot.config import read
from alphapivot.home import CHECKOUT
from flows.server import environment

COMPOSE = yaml.safe_load((CHECKOUT / "deploy" / "compose.yaml").read_text())
DOCKERFILE = (CHECKOUT / "deploy" / "Dockerfile").read_text()
SERVICES = COMPOSE["services"]


@pytest.mark.parametrize("name", [n for n, s in SERVICES.items() if s.get("image") == "alphapivot"])
def test_each_service_runs_a_command_that_there_is(name):
    entrypoint = SERVICES[name].get("entrypoint", ["alphapivot"])
    start = {"alphapivot": ["-m", "alphapivot.cli"], "python": []}[entrypoint[0]]
    command = [sys.executable, *start, *entrypoint[1:], *SERVICES[name].get("command", []), "--help"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


def test_every_setting_of_prefect_is_one_that_it_knows_and_the_server_has_ours():
    """Prefect silently ignores unknown names."""
    ours = {k: v for k, v in environment.settings().items() if k.startswith("PREFECT_")}
    given = {n for s in SERVICES.values() for n in s.get("environment", {}) if n.startswith("PREFECT_")}
    assert {*ours, *given} <= _get_valid_setting_names(Settings)
    server = SERVICES["server"]["environment"]
    for name in (n for n in ours if n.startswith("PREFECT_SERVER_")):
        assert server[name] == ours[name]


def test_every_variable_is_in_the_example_and_no_password_is_in_a_file():
    text = (CHECKOUT / "deploy" / "compose.yaml").read_text()
    example = dict(
        line.split("=", 1)
        for line in (CHECKOUT / "deploy" / "example.env").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert set(re.findall(r"\$\{(\w+)", text)) == set(example)
    assert set(example.values()) == {""}
    ignored = subprocess.run(["git", "check-ignore", "deploy/.env"], cwd=CHECKOUT, capture_output=True, check=False)
    assert ignored.returncode in (0, 128)  # 128: a copy without git


def test_server_and_grafana_are_published_on_loopback_alone_and_the_worker_is_given_time_to_drain():
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert sorted(published) == ["127.0.0.1:3000:3000", "127.0.0.1:4200:4200"]
    grace = int(SERVICES["worker"]["stop_grace_period"].removesuffix("s"))
    assert grace > read.load(CHECKOUT / "config.ini", {}).runtime.drain + 40


def test_every_service_volume_and_config_that_is_named_is_there():
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        mounted = {volume.split(":")[0] for volume in service.get("volumes", [])}
        files = {name for name in mounted if name.startswith("./")}
        assert mounted - files <= set(COMPOSE["volumes"])
        assert all((CHECKOUT / "deploy" / name).exists() for name in files)
        assert {config["source"] for config in service.get("configs", [])} <= set(COMPOSE["configs"])


def test_the_image_has_the_python_that_is_tested_and_files_that_exist():
    (image,) = re.findall(r"^FROM python:([\d.]+)-slim$", DOCKERFILE, re.MULTILINE)
    assert Version(image) == Version("3.11")
    copied = [path for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for path in line.split()]
    assert {"alphapivot", "flows", "tasks", "pillars", "sql", "config.ini", "prefect.yaml"} <= set(copied)
    assert all((CHECKOUT / path).exists() for path in copied)
    assert "-c constraints.txt" in DOCKERFILE
    assert DOCKERFILE.index("USER alphapivot") < DOCKERFILE.index("ENTRYPOINT")
