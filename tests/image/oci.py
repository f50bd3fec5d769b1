"""Reads the OCI image layout that `.ci/image` has written."""

import gzip
import hashlib
import io
import json
import platform
import tarfile
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "target/image"
LAYOUT = FOLDER / "oci"
PLAYGROUND = REPOSITORY / "target/playground/oci"
VERSION = tomllib.loads((REPOSITORY / "Cargo.toml").read_text())["workspace"]["package"]["version"]
# The platform of this machine.
OURS = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


def blob(layout, descriptor):
    """The content that a descriptor refers to, if size and digest are what it says."""
    content = (layout / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes()
    assert len(content) == descriptor["size"], descriptor
    assert "sha256:" + hashlib.sha256(content).hexdigest() == descriptor["digest"], descriptor
    return content


class Image:
    """One platform's image, read from its descriptor in the index."""

    def __init__(self, layout, descriptor):
        self.platform = descriptor["platform"]
        self.manifest = json.loads(blob(layout, descriptor))
        self.config = json.loads(blob(layout, self.manifest["config"]))
        (layer,) = self.manifest["layers"]
        self.archive = gzip.decompress(blob(layout, layer))
        self.compressed = layer["size"]

    def entries(self):
        with tarfile.open(fileobj=io.BytesIO(self.archive)) as archive:
            return archive.getmembers()

    def unpack(self, folder):
        with tarfile.open(fileobj=io.BytesIO(self.archive)) as archive:
            archive.extractall(folder, filter="tar")


def index(layout):
    (whole,) = json.loads((layout / "index.json").read_text())["manifests"]
    return json.loads(blob(layout, whole))


def images(layout=LAYOUT):
    """The images by architecture."""
    found = [Image(layout, descriptor) for descriptor in index(layout)["manifests"]]
    return {image.platform["architecture"]: image for image in found}
