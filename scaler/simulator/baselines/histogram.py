"""The hybrid histogram policy for rarely used functions.

Source: Shahrad et al., "Serverless in the Wild" (USENIX ATC 2020): idle times in one-minute bins up to 4 h; unload at
once, pre-warm at the 5th percentile less 10 %, keep until the 99th plus 10 %. Where the histogram says little
(coefficient of variation of its bins below 2, or fewer than ten idle times) the replica is kept for the histogram's
range. Where most idle times lie beyond it, the next one is taken to be like their mean, 15 % around it (the original
fits ARIMA there). Knob: a factor on how long it is kept. Pre-warming begins at that time, as in the original; the
start takes what it takes.
"""

from math import ceil

import numpy as np

from scaler.simulator.baselines.base import Baseline, Site, Situation

BIN_SECONDS = 60.0
N_BINS = 240
HEAD, TAIL, MARGIN = 0.05, 0.99, 0.10
LEAST_VARIATION = 2.0
FEWEST = 10
BEYOND_MARGIN = 0.15


class HybridHistogram:
    def __init__(self, site: Site, factor: float | None = None):
        self._factor = factor if factor is not None else 1.0
        self._step_seconds = site.step_seconds
        self._bins = np.zeros(N_BINS)
        self._beyond: list[float] = []
        self._last_arrival: float | None = None
        self._need = 1
        for k in np.flatnonzero(site.history > 0).tolist():
            self._arrived((k - len(site.history)) * site.step_seconds)
        self._windows = self._decide()

    def desired(self, now: Situation) -> int:
        if now.blind:
            return now.total
        if now.work and now.work[-1] > 0:
            self._arrived(now.now_seconds - self._step_seconds)
            self._need = max(1, ceil(now.load[-1] - 1e-9))
            self._windows = self._decide()
        if self._last_arrival is None:
            return 0
        pre_warm, keep = self._windows
        idle = now.now_seconds - self._last_arrival
        if now.queue > 0 or idle <= self._step_seconds or pre_warm <= idle < pre_warm + keep:
            return max(self._need, ceil(now.load[-1] - 1e-9))
        return 0

    def _arrived(self, second: float) -> None:
        if self._last_arrival is not None:
            gap = second - self._last_arrival
            if gap >= N_BINS * BIN_SECONDS:
                self._beyond.append(gap)
            elif gap > self._step_seconds:
                self._bins[int(gap // BIN_SECONDS)] += 1
        self._last_arrival = second

    def _decide(self) -> tuple[float, float]:
        """(seconds after the last request at which it is to be there again, seconds that it stays)."""
        inside, beyond = float(self._bins.sum()), len(self._beyond)
        if beyond > inside and inside + beyond >= FEWEST:
            expected = float(np.mean(self._beyond[-50:]))
            return (1 - BEYOND_MARGIN) * expected, 2 * BEYOND_MARGIN * expected * self._factor
        if inside < FEWEST or self._bins.std() / self._bins.mean() < LEAST_VARIATION:
            return 0.0, N_BINS * BIN_SECONDS * self._factor
        share = np.cumsum(self._bins) / inside
        head = int(np.searchsorted(share, HEAD))
        tail = int(np.searchsorted(share, TAIL - 1e-12)) + 1
        pre_warm = head * BIN_SECONDS * (1 - MARGIN)
        return pre_warm, (tail * BIN_SECONDS * (1 + MARGIN) - pre_warm) * self._factor


FACTORS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)
BASELINE = Baseline(name="hybrid-histogram", make=HybridHistogram, knob="factor on the keep time", knob_values=FACTORS)
