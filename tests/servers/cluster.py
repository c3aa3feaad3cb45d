"""A real Kubernetes control plane on loopback, without containers: etcd, API server, controllers, scheduler.

There is no kubelet: `tests.servers.kubelet` plays the nodes. The API server makes its own certificate; identities are
tokens: `admin` may do everything, `nobody` is known and may do nothing, and others can be given rights by RBAC.
"""

import json
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.servers.api import KubernetesApi
from tests.servers.processes import ServerProcess, free_port, http_status, wait_until

TOKENS = {user: f"{user}-token" for user in ("admin", "nobody", "headstart", "reader")}
CONTROLLERS = (
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "disruption-controller",
    "horizontal-pod-autoscaler-controller",
)


class Cluster:
    """A control plane over one data folder; the API server may be stopped and started again on the same address."""

    def __init__(self, programs: Mapping[str, Path], folder: Path) -> None:
        self._folder = folder
        self._certificates = folder / "certificates"
        self._certificates.mkdir(parents=True)
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self._etcd_port = free_port()
        self._write_tokens()
        self.etcd = self._etcd(programs["etcd"])
        self.api_server = self._api_server(programs["kube-apiserver"])
        self.controller_manager = self._controller_manager(programs["kube-controller-manager"])
        self.scheduler = self._scheduler(programs["kube-scheduler"])

    @property
    def certificate_authority(self) -> Path:
        return self._certificates / "apiserver.crt"

    @property
    def kubeconfig(self) -> Path:
        """Of the user `admin`."""
        return self._folder / "admin.kubeconfig"

    def start(self) -> None:
        """The API server is ready, the namespace `default` exists, controllers and scheduler run."""
        self.etcd.start()
        self.etcd.wait_ready(
            lambda: http_status(f"http://127.0.0.1:{self._etcd_port}/health") == 200, timeout_seconds=60
        )
        self.start_api_server()
        for user in TOKENS:
            self.kubeconfig_of(user)
        wait_until(self._has_default_namespace, timeout_seconds=60, what="the namespace default exists")
        self.controller_manager.start()
        self.scheduler.start()

    def start_api_server(self) -> None:
        self.api_server.start()
        self.api_server.wait_ready(self.api_is_ready, timeout_seconds=120)

    def stop_api_server(self) -> None:
        """Open watches keep a server that was asked to end for a minute: after a moment it is killed."""
        self.api_server.terminate(timeout_seconds=2)

    def stop(self) -> None:
        for server in (self.scheduler, self.controller_manager):
            server.kill()  # they hold nothing that is worth an orderly end
        self.api_server.kill()
        self.etcd.kill()

    def api(self, user: str = "admin") -> KubernetesApi:
        return KubernetesApi(self.url, TOKENS[user], self.ssl_context())

    def kubeconfig_of(self, user: str, *, server: str | None = None, name: str | None = None) -> Path:
        """Writes and returns a kubeconfig; `server`: an address in place of the API server's."""
        cluster: dict[str, str] = {"server": server or self.url}
        if server is None:
            cluster["certificate-authority"] = str(self.certificate_authority)
        path = self._folder / f"{name or user}.kubeconfig"
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": TOKENS[user]}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": user}}],
            "current-context": "tests",
        }
        # Programs that have just been started may be about to read the one before: there is always a whole one.
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(document))
        unfinished.replace(path)
        return path

    def make_namespace(self, name: str) -> None:
        self.api().create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def grant(self, user: str, rules: Iterable[Mapping[str, object]]) -> None:
        """`user` may do in the whole cluster what the RBAC `rules` say, from now on."""
        rbac = "rbac.authorization.k8s.io"
        base = f"/apis/{rbac}/v1"
        self.api().create(
            f"{base}/clusterroles",
            {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": user}, "rules": list(rules)},
        )
        self.api().create(
            f"{base}/clusterrolebindings",
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": user},
                "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": user},
                "subjects": [{"apiGroup": rbac, "kind": "User", "name": user}],
            },
        )

    def ssl_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate_authority))

    def api_is_ready(self) -> bool:
        """Whether the API server answers, from the first moment of its start on."""
        try:
            context = self.ssl_context()
        except (FileNotFoundError, ssl.SSLError):  # not there yet, or half written
            return False
        headers = {"Authorization": f"Bearer {TOKENS['admin']}"}
        return http_status(f"{self.url}/readyz", headers=headers, context=context) == 200

    def _has_default_namespace(self) -> bool:
        items = self.api().get("/api/v1/namespaces")["items"]
        return any(item["metadata"]["name"] == "default" for item in items)

    def _write_tokens(self) -> None:
        rows = [
            f"{token},{user},{user}{',system:masters' if user == 'admin' else ''}" for user, token in TOKENS.items()
        ]
        (self._folder / "tokens.csv").write_text("\n".join(rows) + "\n")

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _etcd(self, program: Path) -> ServerProcess:
        client = f"http://127.0.0.1:{self._etcd_port}"
        return ServerProcess(
            [
                program,
                f"--data-dir={self._folder / 'etcd'}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls=http://127.0.0.1:{free_port()}",
                "--unsafe-no-fsync",
                "--log-level=error",
            ],
            log=self._log("etcd"),
        )

    def _api_server(self, program: Path) -> ServerProcess:
        key = self._certificates / "apiserver.key"
        return ServerProcess(
            [
                program,
                f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
                f"--cert-dir={self._certificates}",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                f"--secure-port={self.port}",
                "--endpoint-reconciler-type=none",
                "--authorization-mode=RBAC",
                f"--token-auth-file={self._folder / 'tokens.csv'}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={key}",
                f"--service-account-signing-key-file={key}",
                "--service-cluster-ip-range=10.0.0.0/24",
                # No node is ever reported ready by a node controller, and pods need no service account.
                "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
                "--shutdown-delay-duration=0s",
                "--v=0",
            ],
            log=self._log("kube-apiserver"),
        )

    def _controller_manager(self, program: Path) -> ServerProcess:
        return ServerProcess(
            [
                program,
                f"--kubeconfig={self.kubeconfig}",
                f"--controllers={','.join(CONTROLLERS)}",
                "--leader-elect=false",
                "--secure-port=0",
                "--horizontal-pod-autoscaler-sync-period=1s",
                "--kube-api-qps=200",
                "--kube-api-burst=400",
            ],
            log=self._log("kube-controller-manager"),
        )

    def _scheduler(self, program: Path) -> ServerProcess:
        config = self._folder / "scheduler.json"
        config.write_text(
            json.dumps(
                {
                    "apiVersion": "kubescheduler.config.k8s.io/v1",
                    "kind": "KubeSchedulerConfiguration",
                    "clientConnection": {"kubeconfig": str(self.kubeconfig)},
                    "leaderElection": {"leaderElect": False},
                    "podInitialBackoffSeconds": 1,
                    "podMaxBackoffSeconds": 1,
                }
            )
        )
        return ServerProcess([program, f"--config={config}", "--secure-port=0"], log=self._log("kube-scheduler"))
