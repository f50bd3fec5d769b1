"""What is in the image and what is not, read from the layout. `.ci/image` comes first; needs readelf, skopeo, and for the
other platform's program an emulator (qemu-user-static)."""

import functools
import hashlib
import json
import os
import re
import subprocess
import tempfile
import tomllib
import unittest
import zlib
from pathlib import Path

import oci

MEGABYTE = 1_000_000
MACHINE = {"amd64": "Advanced Micro Devices X86-64", "arm64": "AArch64"}
EMULATOR = {"amd64": "qemu-x86_64-static", "arm64": "qemu-aarch64-static"}


def on_each_platform(test):
    @functools.wraps(test)
    def run(self):
        for arch, image in oci.images().items():
            with self.subTest(arch), tempfile.TemporaryDirectory() as folder:
                image.unpack(folder)
                test(self, image, Path(folder))

    return run


def readelf(file, *options):
    return subprocess.run(["readelf", "--wide", *options, file], check=True, capture_output=True, text=True).stdout


def crates(program):
    """The crates that cargo-auditable has listed in the program: names and versions."""
    offset, size = re.search(r" \.dep-v0 +\S+ +\S+ +(\S+) +(\S+)", readelf(program, "--sections")).groups()
    section = program.read_bytes()[int(offset, 16) :][: int(size, 16)]
    packages = json.loads(zlib.decompress(section))["packages"]
    return {(package["name"], package["version"]) for package in packages}


class Layout(unittest.TestCase):
    @on_each_platform
    def test_holds_the_program_the_roots_and_the_licence_and_nothing_else(self, image, _):
        found = {f"/{entry.name}": (oct(entry.mode), entry.uid, entry.gid) for entry in image.entries()}
        folder, file = ("0o755", 0, 0), ("0o644", 0, 0)
        roots = "/etc/ssl/certs/ca-certificates.crt"
        folders = {"/etc": folder, "/etc/ssl": folder, "/etc/ssl/certs": folder}
        self.assertEqual(found, {"/tenure": ("0o755", 0, 0), "/LICENSE": file, roots: file, **folders})

    @on_each_platform
    def test_is_small(self, image, _):
        arch, unpacked = image.platform["architecture"], len(image.archive)
        print(f"\n{arch}: {image.compressed / MEGABYTE:.2f} MB to pull, {unpacked / MEGABYTE:.2f} MB unpacked")
        self.assertLess(unpacked, 20 * MEGABYTE)

    @on_each_platform
    def test_starts_the_operator_as_nobody_special(self, image, _):
        config = image.config["config"]
        platform = {"os": image.config["os"], "architecture": image.config["architecture"]}
        self.assertEqual(platform, image.platform)
        self.assertEqual(config["User"], "65532:65532")
        self.assertEqual((config["Entrypoint"], config["Cmd"]), (["/tenure"], ["run"]))
        self.assertNotIn("Env", config)
        content = "sha256:" + hashlib.sha256(image.archive).hexdigest()
        self.assertEqual(image.config["rootfs"], {"type": "layers", "diff_ids": [content]})

    @on_each_platform
    def test_is_started_as_the_dockerfile_says(self, image, _):
        final = (oci.REPOSITORY / "Dockerfile").read_text().rpartition("\nFROM scratch\n")[2]
        said = dict(re.findall(r"^(USER|ENTRYPOINT|CMD|EXPOSE|WORKDIR) (.*)$", final, re.MULTILINE))
        config = image.config["config"]
        self.assertEqual(said["USER"], config["User"])
        self.assertEqual(json.loads(said["ENTRYPOINT"]), config["Entrypoint"])
        self.assertEqual(json.loads(said["CMD"]), config["Cmd"])
        self.assertEqual(said["WORKDIR"], config["WorkingDir"])
        self.assertEqual({f"{said['EXPOSE']}/tcp": {}}, config["ExposedPorts"])
        labels = re.findall(r'(org\.opencontainers\.\S+)="(.*)"', final)
        self.assertEqual(len(labels), 3)
        self.assertLessEqual(dict(labels).items(), config["Labels"].items())

    @on_each_platform
    def test_says_what_it_is(self, image, _):
        labels = image.config["config"]["Labels"]
        self.assertEqual(image.manifest["annotations"], labels)
        label = {name.removeprefix("org.opencontainers.image."): text for name, text in labels.items()}
        self.assertEqual((label["title"], label["version"], label["licenses"]), ("tenure", oci.VERSION, "Apache-2.0"))
        self.assertTrue(label["description"])
        self.assertRegex(label["revision"], "^([0-9a-f]{40}(-dirty)?|unknown)$")
        self.assertEqual(label["created"], image.config["created"])

    @on_each_platform
    def test_the_program_needs_no_library_and_no_loader_and_has_no_fixed_address(self, image, folder):
        headers = readelf(folder / "tenure", "--file-header", "--program-headers", "--dynamic")
        self.assertIn(MACHINE[image.platform["architecture"]], headers)
        self.assertNotRegex(headers, "INTERP|NEEDED")
        # Loaded at a random address, and nothing in it is both written and run.
        self.assertRegex(headers, r"Type: +DYN ")
        self.assertIn("GNU_RELRO", headers)
        self.assertNotRegex(headers, " RWE ")

    @on_each_platform
    def test_the_program_starts(self, image, folder):
        arch = image.platform["architecture"]
        emulator = [] if arch == oci.OURS else [EMULATOR[arch]]
        done = subprocess.run([*emulator, folder / "tenure", "--version"], check=True, capture_output=True, text=True)
        self.assertEqual(done.stdout, f"tenure {oci.VERSION}\n")

    @on_each_platform
    def test_the_program_does_not_tell_where_it_was_built(self, _, folder):
        program = (folder / "tenure").read_bytes()
        self.assertTrue(b"/cargo/registry/src/" in program, "panic messages name files; else this test would see nothing")
        home = Path.home()
        cargo, rustup = os.environ.get("CARGO_HOME", home / ".cargo"), os.environ.get("RUSTUP_HOME", home / ".rustup")
        for path in (oci.REPOSITORY, home, cargo, rustup):
            self.assertFalse(f"{path}/".encode() in program, path)

    @on_each_platform
    def test_the_program_names_its_crates_for_scanners(self, image, folder):
        locked = tomllib.loads((oci.REPOSITORY / "Cargo.lock").read_text())["package"]
        found = crates(folder / "tenure")
        self.assertLessEqual(found, {(package["name"], package["version"]) for package in locked})
        self.assertLessEqual({"tenure", "kube", "rustls", "ring"}, {name for name, _ in found})

    @on_each_platform
    def test_the_roots_are_certificates_only(self, _, folder):
        roots = (folder / "etc/ssl/certs/ca-certificates.crt").read_text()
        self.assertGreater(len(re.findall("^-----BEGIN CERTIFICATE-----$", roots, re.MULTILINE)), 100)
        self.assertEqual(set(re.findall("-----BEGIN (.*)-----", roots)), {"CERTIFICATE"})

    def test_an_independent_tool_reads_every_blob(self):
        with tempfile.TemporaryDirectory() as folder:
            copy = ["skopeo", "copy", "--all", "--quiet", f"oci:{oci.LAYOUT}", f"oci:{folder}:copy"]
            subprocess.run(copy, check=True, capture_output=True)


if __name__ == "__main__":
    unittest.main()
