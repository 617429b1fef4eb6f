"""Container images built and run for real, by Debian's buildah in a storage of its own; needs root.

No engine and no daemon: `chroot` isolation, so the host's network and process tables. Where no
container registry can be reached, a stand-in for the base image is made from Debian's packages: the
release whose Python is that of the image, with pip as the base image has it. It says so by a label.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlops_assets.stores.bento_process import bentoml_environment
from mlops_assets.stores.bento_store import BentoStore

TOOLS = ("buildah", "debootstrap")
STAND_IN = "stand-in-for"
"""Label of a base image that was made here."""
_RELEASE, _PACKAGES = "bookworm", "ca-certificates,python3,python3-pip,python3-venv"
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_PULL_SECONDS, _BUILD_SECONDS = 120, 900


def require_tools() -> None:
    """Skip a test where images cannot be built, and say what is lacking."""
    if os.geteuid() != 0:
        pytest.skip("not run: buildah's chroot isolation needs root")
    if lacking := [tool for tool in TOOLS if not shutil.which(tool)]:
        pytest.skip(f"not run: {' and '.join(lacking)} not installed; `make images` installs it")


class Images:
    """Images and containers whose files lie under `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Not the machine's own storage; vfs needs no mounts.
        storage = folder / "storage.conf"
        storage.write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/root"\nrunroot = "{folder}/run"\n'
        )
        self._environment = {
            "CONTAINERS_STORAGE_CONF": str(storage), "BUILDAH_ISOLATION": "chroot"
        }  # fmt: skip

    def base(self, name: str) -> str:
        """Get a base image, or make its stand-in; tell which."""
        try:
            self._buildah("pull", "--quiet", name, seconds=_PULL_SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            self._stand_in(name)
            return f"a stand-in for {name}: Debian {_RELEASE} with its own Python"
        return f"{name} as it is published"

    def build(self, store: BentoStore, tag: str) -> None:
        """Build the image of a Bento as its users do; its base is there."""
        command = [sys.executable, "-m", "bentoml", "containerize", tag, "--backend", "buildah"]
        done = subprocess.run(
            [*command, "--opt", "pull-never", "--image-tag", tag],
            env=bentoml_environment(store.home) | self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_BUILD_SECONDS,
        )
        assert done.returncode == 0, done.stdout[-6000:]

    def container(self, image: str) -> str:
        """Make a container of an image; its name."""
        return self._buildah("from", "--quiet", "--pull-never", image).strip()

    def config(self, image: str) -> dict[str, Any]:
        """What an image says of itself, as OCI names it."""
        said: dict[str, Any] = json.loads(self._buildah("inspect", "--type", "image", image))
        return said["OCIv1"]["config"]

    @contextmanager
    def running(
        self, container: str, *command: str, folder: Path, environment: Mapping[str, str]
    ) -> Iterator[subprocess.Popen[str]]:
        """Run a command in a container as its user; what is left of it ends with the block.

        `folder` is there under its own name. The process is buildah; the container's are its
        descendants.
        """
        variables = [f"--env={name}={value}" for name, value in environment.items()]
        process = subprocess.Popen(
            [
                "buildah",
                "run",
                f"--volume={folder}:{folder}",
                *variables,
                container,
                "--",
                *command,
            ],
            env=os.environ | self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                for each in [*psutil.Process(process.pid).children(recursive=True), process]:
                    each.kill()
            process.communicate()

    def _stand_in(self, name: str) -> None:
        with tempfile.TemporaryDirectory(dir=self._folder) as scratch:
            root = Path(scratch, "root")
            subprocess.run(
                ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _RELEASE, root],
                check=True,
                capture_output=True,
                timeout=_BUILD_SECONDS,
            )
            # As in the base image, pip installs where it is told.
            for mark in root.glob("usr/lib/python3.*/EXTERNALLY-MANAGED"):
                mark.unlink()
            # Whom this machine trusts: between it and the package index there may be a proxy.
            shutil.copy(os.environ.get("SSL_CERT_FILE", _CERTIFICATES), root / _CERTIFICATES[1:])
            made = self._buildah("from", "--quiet", "scratch").strip()
            self._buildah("add", "--quiet", made, str(root), "/")
        trusted = [f"--env={name}={_CERTIFICATES}" for name in ("SSL_CERT_FILE", "PIP_CERT")]
        self._buildah("config", *trusted, f"--label={STAND_IN}={name}", made)
        self._buildah("commit", "--quiet", "--rm", made, f"docker.io/library/{name}")

    def _buildah(self, *arguments: str, seconds: float = _BUILD_SECONDS) -> str:
        return subprocess.run(
            ["buildah", *arguments],
            env=os.environ | self._environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=seconds,
        ).stdout
