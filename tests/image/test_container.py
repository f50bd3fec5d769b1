"""The image at work in a container. `.ci/image` comes first; needs root, runc and openssl."""

import http.client
import json
import signal
import tempfile
import unittest
from pathlib import Path

import oci
from cluster import NAME, RESOLVER, ApiServer, NameServer
from container import Container

ROOTS = "/etc/ssl/certs/ca-certificates.crt"
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


class Commands(unittest.TestCase):
    def run_to_its_end(self, *arguments, **more):
        with Container(oci.images()[oci.OURS], arguments, **more) as container:
            return container.ended()

    def test_tells_its_version(self):
        self.assertEqual(self.run_to_its_end("--version"), (0, f"tenure {oci.VERSION}\n"))

    def test_tells_its_settings(self):
        code, output = self.run_to_its_end("run", "--help")
        self.assertEqual(code, 0)
        self.assertIn("TENURE_LISTEN", output)

    def test_without_arguments_it_runs_and_says_what_it_misses(self):
        for environment in [[], ["KUBECONFIG=/there/is/none"]]:
            code, output = self.run_to_its_end(environment=environment)
            self.assertEqual(code, 1)
            self.assertIn("tenure: no cluster: set KUBECONFIG, or run in a Pod with a ServiceAccount", output)


class Operator(unittest.TestCase):
    """The operator finds the API server by a name server, trusts its certificate, works, and ends when it is told to."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.names = NameServer({NAME: "127.0.0.1"})
        self.addCleanup(self.names.close)
        self.api = ApiServer(self.folder)
        self.addCleanup(self.api.close)

    def container(self, environment, files, mounts):
        # As a kubelet writes it.
        resolver = f"nameserver {RESOLVER}\nsearch tenure.svc.cluster.local svc.cluster.local\noptions ndots:5\n"
        for target, content in {**files, "/etc/resolv.conf": resolver}.items():
            source = self.folder / Path(target).name
            source.write_text(content)
            mounts = [*mounts, (target, source)]
        return Container(oci.images()[oci.OURS], [], [*environment, "TENURE_LISTEN=127.0.0.1:0"], mounts)

    def operator(self, authority=None, roots=None):
        mounts = [("/ca.crt", self.api.authority), *([(ROOTS, roots)] if roots else [])]
        return self.container(["KUBECONFIG=/kubeconfig"], {"/kubeconfig": self.api.kubeconfig(authority)}, mounts)

    def test_in_a_pod_it_uses_its_account_and_stands_for_election(self):
        environment = [f"KUBERNETES_SERVICE_HOST={NAME}", f"KUBERNETES_SERVICE_PORT={self.api.server_address[1]}"]
        files = {f"{ACCOUNT}/token": "its-token", f"{ACCOUNT}/namespace": "its-own"}
        with self.container(environment, files, [(f"{ACCOUNT}/ca.crt", self.api.authority)]) as container:
            container.line("standing by")
            container.line("the lease cannot be taken or renewed")
        self.assertEqual(self.api.authorizations, {"Bearer its-token"})
        self.assertIn("/apis/coordination.k8s.io/v1/namespaces/its-own/leases/tenure", self.api.paths)

    def test_works_as_nobody_special_and_ends_when_told_to(self):
        with self.operator(authority="/ca.crt") as container:
            listening = json.loads(container.line("tenure is starting"))["listen"]
            container.line("at work")
            kinds = {path.rpartition("/")[2] for path in self.api.paths}
            self.assertLessEqual({"x2gateways", "tokenpolicies", "konaservers", "customertokenttls"}, kinds)
            # The name was tried with the search domains first, and then found as it stands.
            self.assertLessEqual({f"{NAME}.svc.cluster.local", NAME}, self.names.asked)
            health = http.client.HTTPConnection(listening)
            health.request("GET", "/readyz")
            self.assertEqual(health.getresponse().status, 200)
            health.close()

            status = container.status()
            self.assertEqual(status["Uid"].split(), ["65532"] * 4)
            self.assertEqual(status["Gid"].split(), ["65532"] * 4)
            self.assertEqual(int(status["CapEff"], 16), 0)

            container.signal(signal.SIGTERM)
            code, output = container.ended()
            self.assertEqual(code, 0, output)
            self.assertIn("shutting down", output)

    def test_without_an_authority_it_trusts_the_roots_of_the_image(self):
        with self.operator(roots=self.api.authority) as container:
            container.line("at work")
        self.api.paths.clear()
        with self.operator() as container:
            self.assertIn("UNKNOWN_CA", self.api.refusals.get(timeout=60))
            container.line("the watch failed and is retried")
        self.assertEqual(self.api.paths, set())


if __name__ == "__main__":
    unittest.main()
