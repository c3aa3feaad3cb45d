"""What can go wrong in a forecast.

ForecasterError
├── BadSeries          a history that is no regular UTC grid of values >= 0 (also a ValueError)
├── ShortHistory       fewer steps than the method needs: nothing is forecast, nothing is guessed
├── UnknownMethod      a name that METHODS does not hold
└── StoreError         a stored model that cannot be read: absent, damaged, or of an unknown schema version
    └── BadKey         a name under which no model can be kept
"""


class ForecasterError(Exception):
    """Base of all errors of this package. Catch it where a missing forecast is survivable."""


class BadSeries(ForecasterError, ValueError):
    """The history handed in breaks the promises of DemandSeries."""


class ShortHistory(ForecasterError):
    """The history has fewer steps than asked for: the message names both numbers."""


class UnknownMethod(ForecasterError, KeyError):
    """No method of that name: the message lists the known ones."""

    def __str__(self) -> str:  # KeyError would quote the message
        return str(self.args[0]) if self.args else ""


class StoreError(ForecasterError):
    """A stored model could not be read or written."""


class BadKey(StoreError):
    """No model can be kept under this name: the message says what a name may hold."""
