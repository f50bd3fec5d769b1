"""The playground's image: its contents, and the playground at work with the operator's image.

`.ci/image` and `cargo test --test cluster playground` come first; needs root, runc and readelf. The API server is real, and the
manifests are applied as they are. There is no node: runc starts the programs of the Pods with the Pods' arguments, and instead of
the cluster's DNS and Services there are a name server and forwarders on loopback.
"""

import json
import signal
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path

import oci
from cluster import RESOLVER, ControlPlane, NameServer, Service
from container import Container
from test_layout import MEGABYTE, readelf

NAMESPACE = "tenure-playground"
PATIENCE = 180


def playground():
    return oci.images(oci.PLAYGROUND)[oci.OURS]


class Layout(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.image, self.program = playground(), Path(folder.name, "tenure-playground")
        self.image.unpack(folder.name)

    def test_contains_the_program_and_the_license_only(self):
        found = {f"/{entry.name}": oct(entry.mode) for entry in self.image.entries()}
        self.assertEqual(found, {"/tenure-playground": "0o755", "/LICENSE": "0o644"})
        self.assertLess(len(self.image.archive), 10 * MEGABYTE)

    def test_starts_the_program_as_an_unprivileged_user(self):
        config = self.image.config["config"]
        self.assertEqual((config["User"], config["Entrypoint"]), ("65532:65532", ["/tenure-playground"]))
        self.assertEqual(config["Labels"]["org.opencontainers.image.title"], "tenure-playground")

    def test_the_program_is_static_and_without_the_crates_for_clusters(self):
        self.assertNotRegex(readelf(self.program, "--program-headers", "--dynamic"), "INTERP|NEEDED")
        # By the source files that its panics name: cargo-auditable also lists what the features left out would need.
        program = self.program.read_bytes()
        self.assertIn(b"/hyper-1.", program)
        self.assertNotIn(b"/kube-", program)


class AtWork(unittest.TestCase):
    """What `kubectl apply -k examples/playground` declares becomes InSync, and what the playground resets is corrected."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.plane = ControlPlane(self.folder)
        self.addCleanup(self.plane.close)
        self.plane.kubectl("apply", "-f", oci.REPOSITORY / "examples/install/install.yaml")
        self.plane.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=60s")
        self.plane.kubectl("apply", "-k", oci.REPOSITORY / "examples/playground")

    def kubectl(self, *arguments):
        return self.plane.kubectl("--namespace", NAMESPACE, *arguments)

    def pod(self, namespace=NAMESPACE, deployment="tenure-playground"):
        """The template of the Pod, and its only container."""
        get = ["get", "deployment", deployment, "--namespace", namespace, "--output=json"]
        deployment = json.loads(self.plane.kubectl(*get))
        template = deployment["spec"]["template"]
        (container,) = template["spec"]["containers"]
        return template, container

    def test_the_namespace_admits_the_pod(self):
        template, _ = self.pod()
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": template["spec"]}
        file = self.folder / "pod.json"
        file.write_text(json.dumps(pod))
        self.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=60s")
        self.kubectl("create", "--dry-run=server", "--filename", file)
        pod["spec"]["containers"][0].pop("securityContext")
        file.write_text(json.dumps(pod))
        self.assertRaisesRegex(AssertionError, "violates PodSecurity", self.kubectl, "create", "--filename", file)

    def serve(self, template, container):
        """Has each Service lead to the port of the Pod that it names, and a name server know the Services."""
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        names = {}
        for number, service in enumerate(json.loads(self.kubectl("get", "services", "--output=json"))["items"], 1):
            self.assertLessEqual(service["spec"]["selector"].items(), template["metadata"]["labels"].items())
            (port,) = service["spec"]["ports"]
            address = f"127.77.2.{number}"
            names[f"{service['metadata']['name']}.{NAMESPACE}.svc.cluster.local"] = address
            self.addCleanup(Service((address, port["port"]), ports[port["targetPort"]]).close)
        self.addCleanup(NameServer(names).close)

    def operator(self):
        kubeconfig, resolver = self.folder / "for-the-operator", self.folder / "resolv.conf"
        kubeconfig.write_text(self.plane.kubeconfig.read_text())
        resolver.write_text(f"nameserver {RESOLVER}\noptions ndots:1\n")
        _, container = self.pod("tenure-system", "tenure")
        # The stand-ins of the Services are on loopback, and the Lease is in the namespace of the Pod.
        arguments = [argument.replace("0.0.0.0:8080", "127.0.0.1:0") for argument in container["args"]]
        arguments += ["--allow-cidr=127.0.0.0/8", "--lease-namespace=tenure-system"]
        files = [("/kubeconfig", kubeconfig), ("/etc/resolv.conf", resolver)]
        return Container(oci.images()[oci.OURS], arguments, ["KUBECONFIG=/kubeconfig"], files, PATIENCE)

    def await_event(self, reason):
        watch = self.plane.command("--namespace", NAMESPACE, "get", "events.events.k8s.io", "--watch")
        output = '--output=jsonpath={.regarding.name} {.reason}{"\\n"}'
        with subprocess.Popen([*watch, output], stdout=subprocess.PIPE, text=True) as events:
            limit = threading.Timer(PATIENCE, events.kill)
            limit.start()
            seen = next((line for line in events.stdout if reason in line), None)
            limit.cancel()
            events.kill()
        self.assertIsNotNone(seen, f"there is no event {reason}")

    def test_all_resources_become_in_sync_and_drift_is_corrected(self):
        template, container = self.pod()
        self.assertTrue(container["securityContext"]["readOnlyRootFilesystem"])
        # A minute is long for a test.
        arguments = [argument.replace("--reset-every=60", "--reset-every=15") for argument in container["args"]]
        self.assertIn("--reset-every=15", arguments)
        with Container(playground(), arguments, patience=PATIENCE) as systems:
            systems.line("kona: listening")
            self.serve(template, container)
            with self.operator() as operator:
                operator.line("at work")
                wait = ["wait", "--timeout=60s", "--for=condition=Ready"]
                self.kubectl(*wait, "tokenpolicy/eight-hours", "konaserver/kona")
                self.kubectl(*wait, "x2gateways,customertokenttls", "--all")
                drift = "--for=jsonpath={.status.history[0].cause}=Drift"
                self.kubectl("wait", "--timeout=120s", drift, "x2gateway/berlin-core")
                self.await_event("berlin-core DriftCorrected")
            systems.signal(signal.SIGTERM)
            code, log = systems.ended()
        self.assertEqual(code, 0, log)
        self.assertIn("berlin-core: reset to factory settings, 28800s -> 86400s", log)
        self.assertIn("shutting down", log)


if __name__ == "__main__":
    unittest.main()
