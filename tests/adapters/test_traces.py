"""A trace file is read exactly, or refused with one sentence that names the place."""

import gzip
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from forecaster.series import DemandSeries, DemandUnit
from scaler.adapters.traces import read_single, read_trace, write_trace
from scaler.errors import TraceError

MALFORMED = {
    # label: (file text, what the message must name)
    "empty file": ("", ("empty", "timestamp,requests")),
    "header only": ("timestamp,requests\n", ("no rows",)),
    "no requests column": ("timestamp,count\n0,1\n60,2\n", ("line 1", "requests", "timestamp,count")),
    "no timestamp column": ("time,requests\n0,1\n60,2\n", ("line 1", "timestamp", "time,requests")),
    "column twice": ("timestamp,requests,requests\n0,1,1\n60,2,2\n", ("line 1", "requests stands twice")),
    "not a number": ("timestamp,requests\n0,1\n60,many\n120,3\n", ("line 3", "requests", "many", ">= 0")),
    "negative": ("timestamp,requests\n0,1\n60,-4\n120,3\n", ("line 3", "requests", "-4", ">= 0")),
    "beyond all counting": ("timestamp,requests\n0,1\n60,1e300\n", ("line 3", "requests", "1e+300", "<= 1e+12")),
    "NaN": ("timestamp,requests\n0,1\n60,NaN\n", ("line 3", "requests", "NaN", ">= 0", "column missing")),
    "infinite": ("timestamp,requests\n0,1\n60,inf\n", ("line 3", "requests", "inf", ">= 0")),
    "empty cell": ("timestamp,requests\n0,1\n60,\n", ("line 3", "requests", "nothing", ">= 0")),
    "irregular grid": ("timestamp,requests\n0,1\n60,1\n120,1\n200,1\n", ("line 5", "timestamp", "80 s", "60 s")),
    "a bin left out": ("timestamp,requests\n0,1\n60,1\n180,1\n240,1\n", ("line 4", "120 s", "regular grid")),
    "duplicate bin": ("timestamp,requests\n0,1\n60,1\n60,1\n120,1\n", ("line 4", "the same", "once")),
    "unsorted": ("timestamp,requests\n0,1\n120,1\n60,1\n", ("line 4", "before", "in order")),
    "one row": ("timestamp,requests\n0,1\n", ("one row", "step")),
    "naive time": (
        "timestamp,requests\n2026-03-02T00:00:00,1\n2026-03-02T00:01:00,2\n",
        ("line 2", "timestamp", "2026-03-02T00:00:00", "zone"),
    ),
    "not a time": ("timestamp,requests\n0,1\nnoon,2\n", ("line 3", "timestamp", "noon", "ISO 8601")),
    "impossible date": (
        "timestamp,requests\n2026-02-29T00:00:00Z,1\n2026-03-01T00:00:00Z,1\n",
        ("line 2", "2026-02-29T00:00:00Z", "ISO 8601"),
    ),
    "milliseconds": ("timestamp,requests\n1767225600000,1\n1767225660000,2\n", ("line 2", "1767225600000", "seconds")),
    "missing flag": ("timestamp,requests,missing\n0,1,0\n60,1,yes\n", ("line 3", "missing", "yes", "0 or 1")),
    "too many fields": ("timestamp,requests\n0,1\n60,1,9\n120,1\n", ("line 3", "3 fields", "need 2")),
    "too many fields everywhere": ("timestamp,requests\n0,1,9\n60,1,9\n", ("line 2", "3 fields", "need 2")),
    "too few fields": ("timestamp,requests,missing\n0,1,0\n60,1\n", ("line 3", "2 fields", "need 3")),
    "blank endpoint": ("endpoint,timestamp,requests\na,0,1\n,60,1\n", ("line 3", "endpoint", "name")),
    "endpoint bin twice": ("endpoint,timestamp,requests\na,0,1\nb,0,1\na,60,1\na,60,1\n", ("line 5", "the same")),
    "endpoint off the grid": (
        "endpoint,timestamp,requests\na,0,1\nb,60,1\na,120,1\na,187,1\nb,240,1\n",
        ("line 5", "off the grid", "60 s"),
    ),
    "line counts blank lines": ("timestamp,requests\n\n0,1\n\n60,many\n", ("line 5", "many")),
}


def a_file(tmp_path: Path, text: str, name: str = "t.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("label", MALFORMED)
def test_a_malformed_trace_gets_one_sentence_naming_place_and_value(label: str, tmp_path: Path) -> None:
    text, named = MALFORMED[label]
    path = a_file(tmp_path, text)
    with pytest.raises(TraceError) as refused:
        read_trace(path)
    message = str(refused.value)
    assert "\n" not in message
    assert str(path) in message
    assert [part for part in named if part not in message] == [], message


def test_rates_are_per_second_and_the_step_is_inferred(tmp_path: Path) -> None:
    series = read_single(a_file(tmp_path, "timestamp,requests\n600,30\n900,0\n1200,60\n"))
    assert series.start == datetime(1970, 1, 1, 0, 10, tzinfo=UTC)
    assert series.step == timedelta(minutes=5)
    np.testing.assert_allclose(series.values, [0.1, 0.0, 0.2])


@pytest.mark.parametrize("stamp", ["2026-03-02T00:00:00Z", "2026-03-02 00:00:00+00:00", "2026-03-02T01:00:00+01:00"])
def test_iso_times_with_a_zone_are_read_as_utc(stamp: str, tmp_path: Path) -> None:
    series = read_single(a_file(tmp_path, f"timestamp,requests\n{stamp},1\n2026-03-02T00:01:00Z,2\n"))
    assert series.start == datetime(2026, 3, 2, tzinfo=UTC)


def test_a_missing_bin_is_nan_whatever_stands_in_it(tmp_path: Path) -> None:
    text = "timestamp,requests,missing\n0,6,0\n60,,1\n120,99,1\n180,12,\n"
    np.testing.assert_allclose(read_single(a_file(tmp_path, text)).values, [0.1, np.nan, np.nan, 0.2])


def test_tokens_are_input_plus_output(tmp_path: Path) -> None:
    path = a_file(tmp_path, "timestamp,requests,images,input_tokens,output_tokens\n0,1,x,60,0\n60,1,y,30,90\n")
    np.testing.assert_allclose(read_single(path, DemandUnit.TOKENS).values, [1.0, 2.0])


def test_tokens_without_token_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="input_tokens"):
        read_trace(a_file(tmp_path, "timestamp,requests\n0,1\n60,1\n"), DemandUnit.TOKENS)


def test_concurrency_is_refused_because_a_trace_records_arrivals(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="arrivals"):
        read_trace(a_file(tmp_path, "timestamp,requests\n0,1\n60,1\n"), DemandUnit.CONCURRENCY)


def test_several_endpoints_share_one_grid_and_bins_left_out_are_zero(tmp_path: Path) -> None:
    text = "endpoint,timestamp,requests\nchat,120,3\nchat,300,6\nimage,60,12\n"
    traces = read_trace(a_file(tmp_path, text))
    assert list(traces) == ["chat", "image"]
    np.testing.assert_allclose(traces["chat"].counts(), [0, 3, 0, 0, 6])
    np.testing.assert_allclose(traces["image"].counts(), [12, 0, 0, 0, 0])
    assert {series.start for series in traces.values()} == {datetime(1970, 1, 1, 0, 1, tzinfo=UTC)}
    with pytest.raises(TraceError, match="2 endpoints"):
        read_single(tmp_path / "t.csv")


def test_crlf_byte_order_mark_and_gzip_make_no_difference(tmp_path: Path) -> None:
    text = "\ufefftimestamp, requests\r\n0,60\r\n60,120\r\n"
    packed = tmp_path / "t.csv.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    for path in (a_file(tmp_path, text), packed):
        np.testing.assert_allclose(read_single(path).values, [1.0, 2.0])


def test_a_file_that_is_no_gzip_or_a_cut_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="need a gzip file"):
        read_trace(a_file(tmp_path, "timestamp,requests\n0,1\n60,1\n", "plain.csv.gz"))
    whole = gzip.compress(b"timestamp,requests\n" + b"0,1\n" * 500)
    (tmp_path / "cut.csv.gz").write_bytes(whole[:-12])
    with pytest.raises(TraceError, match="not a whole gzip file"):
        read_trace(tmp_path / "cut.csv.gz")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(TraceError, match="not UTF-8"):
        read_trace(tmp_path / "binary.csv")
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(tmp_path / "absent.csv")


@pytest.mark.parametrize("name", ["w.csv", "w.csv.gz"])
def test_what_is_written_reads_back_the_same(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    values = rng.poisson(2.0, 50) / 60
    values[7] = np.nan
    series = DemandSeries(
        unit=DemandUnit.REQUESTS, start=datetime(2026, 1, 1, tzinfo=UTC), step=timedelta(minutes=1), values=values
    )
    for traces in ({"": series}, {"a": series, "b": series}):
        write_trace(tmp_path / name, traces)
        back = read_trace(tmp_path / name)
        assert list(back) == list(traces)
        for one in back.values():
            assert (one.start, one.step) == (series.start, series.step)
            np.testing.assert_allclose(one.values, series.values)


def test_every_shipped_trace_is_read(traces_folder: Path) -> None:
    for path in sorted(traces_folder.glob("*.csv*")):
        if path.name != "index.csv":
            assert len(read_single(path)) > 10


@pytest.fixture
def traces_folder(tmp_path: Path) -> Path:
    """Recorded traces where HEADSTART_TRACES names them, else one generated sample."""
    folder = os.environ.get("HEADSTART_TRACES")
    if folder:
        return Path(folder)
    rng = np.random.default_rng(0)
    series = DemandSeries(
        unit=DemandUnit.REQUESTS,
        start=datetime(2026, 1, 1, tzinfo=UTC),
        step=timedelta(minutes=1),
        values=rng.poisson(5, 1440) / 60,
    )
    write_trace(tmp_path / "sample.csv.gz", {"": series})
    return tmp_path
