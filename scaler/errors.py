"""What can go wrong around a decision.

HeadstartError
├── InputError             what a person wrote cannot be used: exit code 2, nothing written
│   ├── PolicyError        a policy document; names file, field, value found, what is allowed
│   ├── TraceError         a recorded history; names file, line or column, value found, what is allowed
│   └── SettingsError      a flag or an environment variable
├── TemporaryError         the same call may succeed later: hold, say so, count it, go on
│   ├── SourceUnavailable  the metrics server gave no usable answer in time
│   ├── ClusterUnavailable the API server gave no usable answer in time
│   ├── StoreUnavailable   the store of decisions could not be read or written
│   ├── OrderUnavailable   nothing is ordered for an endpoint yet, or what is ordered is too old to go by
│   └── Conflict           somebody changed the target since it was read: read again next turn, never force
└── PermanentError         the same call will fail again until a person acts
    ├── QueryRejected      the metrics server refused the query
    ├── TargetNotFound     no such scale target
    ├── Forbidden          credentials or RBAC do not allow it
    ├── OrderRejected      the API server calls the request invalid
    └── UnknownVersion     a stored record of a schema version that this release does not know
"""


class HeadstartError(Exception):
    """Base of all errors of the scaler."""


class InputError(HeadstartError):
    """What a person wrote cannot be used. The message names where, what was found, and what is allowed."""


class PolicyError(InputError):
    """A policy document is not valid."""


class TraceError(InputError):
    """A recorded history is not valid."""


class SettingsError(InputError):
    """A flag or an environment variable is not valid."""


class TemporaryError(HeadstartError):
    """It may work next turn."""


class SourceUnavailable(TemporaryError):
    """The metrics server did not answer usefully."""


class ClusterUnavailable(TemporaryError):
    """The API server did not answer usefully."""


class StoreUnavailable(TemporaryError):
    """The store of decisions did not answer usefully."""


class OrderUnavailable(TemporaryError):
    """There is no order to go by."""


class Conflict(TemporaryError):
    """The target changed since it was read."""


class PermanentError(HeadstartError):
    """It will not work until a person acts."""


class QueryRejected(PermanentError):
    """The metrics server refused the query."""


class TargetNotFound(PermanentError):
    """The scale target does not exist."""


class Forbidden(PermanentError):
    """The credentials do not allow this call."""


class OrderRejected(PermanentError):
    """The API server calls the request invalid, by its schema or by an admission rule."""


class UnknownVersion(PermanentError):
    """A stored record has a schema version this release does not know."""
