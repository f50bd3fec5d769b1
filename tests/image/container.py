"""Starts an image in a container with runc, as a cluster would: no root, no rights, a read-only root, nothing else."""

import json
import signal
import subprocess
import tempfile
import threading
import uuid
from pathlib import Path

PATIENCE = 60
NAMESPACES = ["pid", "mount", "ipc", "uts"]


class Container:
    """A container on the host's network, so that what a test serves on loopback is there. Ends with the `with` block."""

    def __init__(self, image, arguments, environment=(), files=(), patience=PATIENCE):
        self.patience = patience
        self.bundle = tempfile.TemporaryDirectory()
        self.name = f"tenure-{uuid.uuid4()}"
        root = Path(self.bundle.name, "root")
        image.unpack(root)
        # Where something is mounted, there has to be something: a kubelet makes it the same way.
        for target in ["/proc", *(target for target, _ in files)]:
            place = root / target[1:]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.mkdir() if target == "/proc" else place.touch()
        spec = self.specification(image.config["config"], arguments, environment, files)
        Path(self.bundle.name, "config.json").write_text(json.dumps(spec))

    @staticmethod
    def specification(config, arguments, environment, files):
        user, group = map(int, config["User"].split(":"))
        binds = [
            {"destination": target, "type": "bind", "source": str(source), "options": ["bind", "ro"]}
            for target, source in files
        ]
        return {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": user, "gid": group},
                "args": [*config["Entrypoint"], *(arguments or config["Cmd"])],
                "env": list(environment),
                "cwd": config["WorkingDir"],
                "noNewPrivileges": True,
                "capabilities": {},
            },
            "root": {"path": "root", "readonly": True},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}, *binds],
            "linux": {"namespaces": [{"type": kind} for kind in NAMESPACES]},
        }

    def __enter__(self):
        runc = ["runc", "run", "--bundle", self.bundle.name, self.name]
        self.process = subprocess.Popen(
            runc, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        # Whoever waits for a line or for the end waits no longer than this.
        self.limit = threading.Timer(self.patience, self.signal, [signal.SIGKILL])
        self.limit.start()
        return self

    def __exit__(self, *_):
        self.limit.cancel()
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
        self.bundle.cleanup()

    def signal(self, number):
        subprocess.run(["runc", "kill", self.name, str(int(number))], check=True)

    def status(self):
        """What the kernel says about the program."""
        state = subprocess.run(["runc", "state", self.name], check=True, capture_output=True).stdout
        lines = Path(f"/proc/{json.loads(state)['pid']}/status").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line)

    def line(self, text):
        """The next line of output with this text."""
        seen = ""
        for line in self.process.stdout:
            seen += line
            if text in line:
                return line
        raise AssertionError(f"ended without saying {text!r}, but:\n{seen}")

    def ended(self):
        """The exit code and what else it said, once the program has ended by itself."""
        output, _ = self.process.communicate()
        return self.process.returncode, output
