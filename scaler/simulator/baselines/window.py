"""The highest of the last recommendations: how scale-in is held back by a window."""

from collections import deque


class HighestLately:
    """Example: window of 3 steps, 5 then 2, 2, 2: gives 5, 5, 5, 2."""

    def __init__(self, window_steps: int) -> None:
        self._window = window_steps
        self._kept: deque[tuple[int, int]] = deque()
        """(step, count) that may still be the highest, highest first."""

    def of(self, step: int, count: int) -> int:
        """The highest count told within the window that ends with this one."""
        while self._kept and self._kept[-1][1] <= count:
            self._kept.pop()
        self._kept.append((step, count))
        while self._kept[0][0] <= step - self._window:
            self._kept.popleft()
        return self._kept[0][1]
