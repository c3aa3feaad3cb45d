"""How a metrics server is reached: address, credentials, patience."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from scaler.adapters.addresses import without_password
from scaler.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class Connection:
    """One metrics server. Secrets never show in `repr`.

    `url` is what `/api/v1/query` is appended to (Mimir: `http://mimir/prometheus`). `headers` go with every request,
    such as X-Scope-OrgID. At most one of bearer token, bearer token file (read anew for each request, as tokens rotate)
    and user name with password. `client_certificate` with `client_key` is mutual TLS; `ca_certificate` replaces the
    system's trust. An attempt takes at most `timeout_seconds` (`history_timeout_seconds` for a history); a failed one
    is repeated up to `attempts` in all, after `backoff_seconds`, doubling. Raises SettingsError for what cannot work.
    """

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    bearer_token: str = field(default="", repr=False)
    bearer_token_file: Path | None = None
    username: str = ""
    password: str = field(default="", repr=False)
    ca_certificate: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    timeout_seconds: float = 5.0
    history_timeout_seconds: float = 60.0
    attempts: int = 3
    backoff_seconds: float = 0.2

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise SettingsError(f"prometheus url: found {self.shown_url!r}, need http://HOST:PORT or https://...")
        ways = [bool(self.bearer_token), self.bearer_token_file is not None, bool(self.username)]
        if sum(ways) > 1:
            raise SettingsError(
                "prometheus credentials: need at most one of bearer token, bearer token file, user name"
            )
        if (self.client_certificate is None) != (self.client_key is None):
            raise SettingsError("prometheus mutual TLS: need both the client certificate and its key")
        for name in ("bearer_token_file", "ca_certificate", "client_certificate", "client_key"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise SettingsError(f"prometheus {name.replace('_', ' ')}: {path} is no file that can be read")
        if min(self.timeout_seconds, self.history_timeout_seconds) <= 0 or self.attempts < 1:
            raise SettingsError("prometheus patience: need time-outs > 0 and attempts >= 1")

    @property
    def shown_url(self) -> str:
        """The address for messages: a password in it stays out of them."""
        return without_password(self.url)
