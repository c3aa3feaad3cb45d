"""Recorded demand in files: the trace format, read and written.

A trace is a CSV file, plain or gzip. Columns by name: `timestamp` (epoch seconds or ISO 8601 with a zone, start of the
bin) and `requests` (count in the bin); optional `input_tokens`, `output_tokens` (sums in the bin), `missing` (1: no
data for this bin). With a first column `endpoint` one file holds several endpoints and bins left out are 0; without it
the grid is complete. Further columns are ignored.
"""

import csv
import gzip
import io
import math
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecaster.series import DemandSeries, DemandUnit, FloatArray
from scaler.errors import TraceError

_LATEST_EPOCH_SECONDS = 4_102_444_800.0  # the year 2100: anything later is milliseconds by mistake
_MOST_IN_A_BIN = 1e12
"""No endpoint comes near; what counts and squares these numbers later has room left."""
_MAX_CELLS = 200_000_000
_WIDEST_GAP_IN_STEPS = 10
"""A sparse trace whose rows are all further apart than this many inferred steps has a time stamp off the grid."""
_TOKEN_COLUMNS = ("input_tokens", "output_tokens")


def read_trace(path: Path | str, unit: DemandUnit = DemandUnit.REQUESTS) -> dict[str, DemandSeries]:
    """Demand per endpoint, all on one grid; a trace without the column `endpoint` has the single key "".

    Values are rates per second: counts of the bin over its length; for TOKENS the sum of the token columns. A bin
    marked `missing` is NaN. Counts may be fractional (an export of `increase()` is). Raises TraceError naming file,
    line, column, the value found and what is allowed.
    """
    return _Reader(Path(path), unit).read()


def read_single(path: Path | str, unit: DemandUnit = DemandUnit.REQUESTS) -> DemandSeries:
    """As `read_trace` for a file with exactly one endpoint. Raises TraceError when it holds several."""
    found = read_trace(path, unit)
    if len(found) != 1:
        raise TraceError(f"{path}: column endpoint holds {len(found)} endpoints, need a trace of one")
    return next(iter(found.values()))


def write_trace(path: Path | str, traces: Mapping[str, DemandSeries]) -> None:
    """The file holds the traces afterwards, gzip if it ends in .gz, such that `read_trace` gives the same series back.

    The single key "" writes no column `endpoint`. Only REQUESTS: a series of tokens does not know its requests. Raises
    TraceError for another unit, and for several endpoints on different grids.
    """
    grids = {(series.start, series.step, len(series)) for series in traces.values()}
    if len(grids) > 1:
        raise TraceError(f"{path}: need all endpoints on one grid, have {len(grids)} grids")
    frames = []
    for name, series in traces.items():
        if series.unit is not DemandUnit.REQUESTS:
            raise TraceError(f"{path}: need a series of requests, have {series.unit}")
        frames.append(_frame(name, series))
    text = pd.concat(frames).to_csv(index=False, lineterminator="\n") if frames else "timestamp,requests\n"
    data = text.encode()
    # mtime 0: the same series gives the same bytes
    Path(path).write_bytes(gzip.compress(data, mtime=0) if str(path).endswith(".gz") else data)


def _frame(name: str, series: DemandSeries) -> pd.DataFrame:
    counts = np.round(series.counts(), 9)
    missing = np.isnan(counts)
    start = series.start.timestamp()
    stamps = start + series.step_seconds * np.arange(len(series), dtype=np.float64)
    columns: dict[str, object] = {"endpoint": name} if name else {}
    columns["timestamp"] = _whole_if_possible(stamps)
    columns["requests"] = _whole_if_possible(np.where(missing, 0.0, counts))
    if missing.any():
        columns["missing"] = missing.astype(int)
    return pd.DataFrame(columns)


def _whole_if_possible(values: FloatArray) -> NDArray[np.int64] | FloatArray:
    whole = values.astype(np.int64)
    return whole if np.array_equal(whole, values) else values


class _Reader:
    """Reads one file; holds its text so that an error can name the line."""

    def __init__(self, path: Path, unit: DemandUnit) -> None:
        self._path = path
        self._unit = unit
        self._text = ""

    def read(self) -> dict[str, DemandSeries]:
        if self._unit is DemandUnit.CONCURRENCY:
            self._fail("a trace records arrivals, not requests in flight; need demand.unit requests or tokens")
        self._text = self._read_text()
        frame = self._parse()
        stamps = self._timestamps(frame)
        missing = self._missing(frame)
        counts = self._demand(frame, missing)
        if "endpoint" in frame:
            return self._several(frame["endpoint"].astype(str), stamps, counts)
        return self._one(stamps, counts)

    def _fail(self, text: str, row: int | None = None) -> NoReturn:
        where = f"{self._path}" if row is None else f"{self._path}: line {self._line(row)}"
        raise TraceError(f"{where}: {text}")

    def _line(self, row: int) -> int:
        """The line of the file that holds data row `row`: the parser skips blank lines, people count them."""
        lines = [number for number, line in enumerate(self._text.splitlines(), start=1) if line.strip()]
        return lines[row + 1]

    def _read_text(self) -> str:
        try:
            data = self._path.read_bytes()
        except OSError as error:
            raise TraceError(f"{self._path}: cannot be read: {error.strerror or error}") from error
        if data[:2] == b"\x1f\x8b":
            try:
                data = gzip.decompress(data)
            except (OSError, EOFError, zlib.error) as error:
                raise TraceError(f"{self._path}: not a whole gzip file: {error}") from error
        elif self._path.suffix == ".gz":
            self._fail(f"starts with {data[:8]!r}, need a gzip file for a name that ends in .gz")
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise TraceError(f"{self._path}: byte {error.start} is not UTF-8 text; need a CSV file") from error

    def _parse(self) -> pd.DataFrame:
        header = next((line for line in self._text.splitlines() if line.strip()), "")
        names = [name.strip().strip('"') for name in header.split(",")]
        if not header:
            self._fail("the file is empty, need a header line with timestamp,requests")
        for name in ("timestamp", "requests"):
            if name not in names:
                self._fail(f"line 1: no column {name}, found {','.join(names)[:200]}; need timestamp,requests[,...]")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            self._fail(f"line 1: the column {twice[0]} stands twice")
        self._same_width(len(names))
        wanted = [n for n in ("endpoint", "timestamp", "requests", *_TOKEN_COLUMNS, "missing") if n in names]
        try:
            frame = pd.read_csv(
                io.StringIO(self._text),
                header=0,
                names=names,
                usecols=wanted,
                dtype={"endpoint": str},
                index_col=False,
                keep_default_na=False,
                na_values=[""],
                skipinitialspace=True,
                low_memory=False,
            )
        except (pd.errors.ParserError, ValueError) as error:
            raise TraceError(f"{self._path}: not a table of {len(names)} columns: {str(error).strip()}") from error
        if frame.empty:
            self._fail("no rows below the header, need one row a bin")
        return frame

    def _same_width(self, n_columns: int) -> None:
        """The parser would drop surplus fields in silence."""
        if '"' in self._text:
            widths = (len(fields) for fields in csv.reader(io.StringIO(self._text)) if fields)
        else:
            widths = (line.count(",") + 1 for line in self._text.splitlines() if line.strip())
        for row, width in enumerate(widths, start=-1):
            if width != n_columns:
                self._fail(f"found {width} fields, need {n_columns} as in the header", row)

    def _numbers(self, column: pd.Series, allowed: str, ignore: NDArray[np.bool_] | None = None) -> FloatArray:
        """The column as finite floats; rows in `ignore` may hold anything and become NaN."""
        values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
        bad = ~np.isfinite(values)
        if ignore is not None:
            bad &= ~ignore
            values = np.where(ignore, np.nan, values)
        self._refuse(column, bad, allowed)
        return values

    def _refuse(self, column: pd.Series, bad: NDArray[np.bool_], allowed: str) -> None:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            found = column.iloc[row]
            shown = "nothing" if isinstance(found, float) and math.isnan(found) else f"{found}"
            self._fail(f"column {column.name}: found {shown}, need {allowed}", row)

    def _timestamps(self, frame: pd.DataFrame) -> FloatArray:
        column = frame["timestamp"]
        allowed = "epoch seconds, or ISO 8601 with a zone such as 2026-03-02T00:00:00Z"
        if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            stamps = self._numbers(column, allowed)
        else:
            stamps = self._iso_stamps(column, allowed)
        self._refuse(column, (stamps < 0) | (stamps > _LATEST_EPOCH_SECONDS), f"{allowed}, before the year 2100")
        return stamps

    def _iso_stamps(self, column: pd.Series, allowed: str) -> FloatArray:
        numeric = pd.to_numeric(column, errors="coerce")
        text = column.fillna("").astype(str).str.strip()
        naive = ~text.str.contains(r"(?:[zZ]|[+-]\d\d:?\d\d)$", regex=True)
        first = 0 if math.isnan(numeric.iloc[0]) else None
        if first is None:  # epoch seconds with something else among them
            self._refuse(column, numeric.isna().to_numpy(), allowed)
        self._refuse(column, naive.to_numpy(), allowed)
        parsed = pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce")
        self._refuse(column, parsed.isna().to_numpy(), allowed)
        return np.asarray(parsed.dt.tz_localize(None).to_numpy("datetime64[ns]").astype(np.int64) / 1e9)

    def _missing(self, frame: pd.DataFrame) -> NDArray[np.bool_]:
        if "missing" not in frame:
            return np.zeros(len(frame), dtype=bool)
        column = frame["missing"]
        values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
        values = np.where(column.isna(), 0.0, values)
        self._refuse(column, ~np.isin(values, (0.0, 1.0)), "0 or 1")
        return np.asarray(values == 1.0)

    def _demand(self, frame: pd.DataFrame, missing: NDArray[np.bool_]) -> FloatArray:
        """Units per bin; NaN where missing."""
        requests = self._count(frame["requests"], missing)
        if self._unit is not DemandUnit.TOKENS:
            return requests
        columns = [name for name in _TOKEN_COLUMNS if name in frame]
        if not columns:
            self._fail("line 1: no column input_tokens or output_tokens; need one for demand.unit tokens")
        tokens = np.zeros(len(frame))
        for name in columns:
            tokens += self._count(frame[name], missing)
        return tokens

    def _count(self, column: pd.Series, missing: NDArray[np.bool_]) -> FloatArray:
        values = self._numbers(column, "a count >= 0 (where nothing was seen: 1 in a column missing)", missing)
        self._refuse(column, values < 0, "a count >= 0")
        self._refuse(column, values > _MOST_IN_A_BIN, f"a count <= {_MOST_IN_A_BIN:g}")
        return values

    def _one(self, stamps: FloatArray, counts: FloatArray) -> dict[str, DemandSeries]:
        if len(stamps) < 2:
            self._fail("one row only, need two or more to infer the step")
        gaps = np.diff(stamps)
        self._in_order(stamps, gaps, np.arange(len(stamps)))
        step = float(np.median(gaps))
        odd = np.abs(gaps - step) > 1e-6 * step
        if odd.any():
            row = int(np.flatnonzero(odd)[0]) + 1
            self._fail(
                f"column timestamp: found {_utc(stamps[row])}, {gaps[row - 1]:g} s after the bin before; "
                f"need a regular grid (most bins are {step:g} s), with a row for every bin",
                row,
            )
        return {"": self._series(stamps[0], step, counts)}

    def _in_order(self, stamps: FloatArray, gaps: FloatArray, rows: NDArray[np.int64]) -> None:
        bad = gaps <= 0
        if bad.any():
            at = int(np.flatnonzero(bad)[0]) + 1
            how = "the same as the bin before" if gaps[at - 1] == 0 else "before the bin above it"
            self._fail(
                f"column timestamp: found {_utc(stamps[at])}, {how}; need each bin once, in order", int(rows[at])
            )

    def _several(self, names: pd.Series, stamps: FloatArray, counts: FloatArray) -> dict[str, DemandSeries]:
        codes, known = pd.factorize(names)
        blank = names.isin(["", "nan"]).to_numpy()
        self._refuse(names, blank, "the name of an endpoint")
        by_endpoint = np.argsort(codes, kind="stable")
        for chosen in np.split(by_endpoint, np.flatnonzero(np.diff(codes[by_endpoint])) + 1):
            self._in_order(stamps[chosen], np.diff(stamps[chosen]), chosen)
        step = self._sparse_step(stamps)
        start = float(stamps.min())
        bins = np.rint((stamps - start) / step).astype(np.int64)
        n_bins = int(bins.max()) + 1
        if n_bins * len(known) > _MAX_CELLS:
            self._fail(f"{len(known)} endpoints x {n_bins} bins of {step:g} s; need at most {_MAX_CELLS} cells")
        table = np.zeros((len(known), n_bins))
        table[codes, bins] = counts
        return {str(name): self._series(start, step, table[i]) for i, name in enumerate(known)}

    def _sparse_step(self, stamps: FloatArray) -> float:
        """The greatest common divisor of all gaps, to the millisecond: bins without demand have no row."""
        order = np.unique(stamps)
        if len(order) < 2:
            self._fail("all rows have one time stamp, need two or more to infer the step")
        gaps = np.rint(np.diff(order) * 1000).astype(np.int64)
        divisor = int(np.gcd.reduce(gaps))
        if divisor * _WIDEST_GAP_IN_STEPS < gaps.min():
            usual = int(np.median(gaps))
            odd = order[1:][gaps % usual != 0]
            row = int(np.flatnonzero(stamps == odd[0])[0])
            self._fail(
                f"column timestamp: found {_utc(stamps[row])}, off the grid; need bins that are multiples of one step "
                f"(the usual gap is {usual / 1000:g} s)",
                row,
            )
        return divisor / 1000

    def _series(self, start: float, step: float, counts: FloatArray) -> DemandSeries:
        return DemandSeries(
            unit=self._unit,
            start=datetime.fromtimestamp(start, UTC),
            step=timedelta(seconds=step),
            values=counts / step,
        )


def _utc(epoch_seconds: float) -> str:
    return datetime.fromtimestamp(epoch_seconds, UTC).isoformat().replace("+00:00", "Z")
