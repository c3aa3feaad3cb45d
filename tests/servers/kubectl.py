"""The real kubectl, as the user `admin` of the tests' cluster, and the kind of the policies as it is shipped."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.servers.api import ApiError
from tests.servers.cluster import Cluster
from tests.servers.processes import wait_until

POLICY_DEFINITION = "inferencescalingpolicies.headstart.dev"
POLICY_DEFINITION_FILE = Path(__file__).parents[2] / "deploy" / "policy.crd.yaml"


class Kubectl:
    """Runs to the end each time."""

    def __init__(self, programs: Mapping[str, Path], cluster: Cluster) -> None:
        self._command = [programs["kubectl"], f"--kubeconfig={cluster.kubeconfig}"]
        self._api = cluster.api()

    def says(self, *arguments: str) -> str:
        """What is printed, also where it fails."""
        with TemporaryDirectory() as cache:  # else it remembers what kinds there were before
            command = [*self._command, f"--cache-dir={cache}", *arguments]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        return done.stdout + done.stderr

    def define_policies(self) -> None:
        """The server knows the kind of the policies afterwards."""
        self.says("apply", f"--filename={POLICY_DEFINITION_FILE}")
        said = self.says("wait", "--for=condition=Established", f"crd/{POLICY_DEFINITION}", "--timeout=60s")
        assert "condition met" in said, said
        # The server says that it serves a kind a moment before it does.
        wait_until(self._serves_policies, timeout_seconds=60, what="policies are served")

    def forget_policies(self) -> None:
        """The kind is gone afterwards, and all policies with it."""
        self.says("delete", "crd", POLICY_DEFINITION, "--timeout=60s")
        wait_until(lambda: not self._serves_policies(), timeout_seconds=60, what="policies are no longer served")

    def _serves_policies(self) -> bool:
        try:
            self._api.get("/apis/headstart.dev/v1alpha1/inferencescalingpolicies")
        except ApiError:
            return False
        return True
