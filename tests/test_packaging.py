"""What is shipped, and what must never be in the repository."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

REGISTRY = re.compile(r"pypi[.]org|pythonhosted[.]org|/simple/\b|--(extra-)?index-url|registry[.]npmjs|[.]pkg[.]dev")


@pytest.fixture(scope="module")
def texts():
    """Path and text of every file that git has or would take."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a checkout of git, or no git here")
    paths = [ROOT / name for name in listed.split("\0") if name]
    return {path.relative_to(ROOT): path.read_text(errors="ignore") for path in paths if path.is_file()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Names and texts in the wheel, built with the hatchling of this environment: nothing is downloaded."""
    pytest.importorskip("hatchling", reason="no hatchling: the environment was not made by make")
    directory = tmp_path_factory.mktemp("wheel")
    build = f"import hatchling.build; hatchling.build.build_wheel({str(directory)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=ROOT, capture_output=True, check=True)
    with zipfile.ZipFile(next(directory.glob("*.whl"))) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_wheel_holds_every_file_of_the_package(wheel, texts):
    package = {str(path) for path in texts if path.parts[0] == "querywatch"}
    assert package - wheel.keys() == set()
    assert "querywatch/py.typed" in wheel


def test_wheel_holds_nothing_else(wheel):
    assert {name.split("/")[0] for name in wheel} == {"querywatch", _info(wheel)}


def test_wheel_declares_the_command(wheel):
    declared = configparser.ConfigParser()
    declared.read_string(wheel[f"{_info(wheel)}/entry_points.txt"])
    assert dict(declared["console_scripts"]) == {"querywatch": "querywatch.cli:main"}


def test_constraints_are_exact_versions():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"#.*|[\w.-]+==[\w.+!]+", line)] == []
    assert len(lines) > 50


def test_no_file_names_a_package_registry(texts):
    assert _files_with(texts, REGISTRY) == []


def test_no_file_names_a_directory_of_this_machine(texts):
    here = re.compile("|".join(re.escape(str(place)) + r"\b" for place in {ROOT, Path.home(), Path(sys.prefix)}))
    assert _files_with(texts, here) == []


def _info(wheel):
    return next(name.split("/")[0] for name in wheel if name.endswith(".dist-info/METADATA"))


def _files_with(texts, pattern):
    return [f"{path}: {found.group()}" for path, text in texts.items() if (found := pattern.search(text))]
