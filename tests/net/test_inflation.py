"""Compressed replies come out whole, and never larger than there is room for."""

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.net.inflation import Damaged, Unpacker


def raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data)[2:-4]


PACKERS = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress, "": bytes, "identity": bytes}


def unpacked(encoding: str, packed: bytes, room: int, step: int = 7) -> bytes:
    unpacker, parts = Unpacker(encoding), []
    for start in range(0, len(packed), step):
        part = unpacker.feed(packed[start : start + step], room)
        room -= len(part)
        parts.append(part)
        if room < 0:
            return b"".join(parts)
    unpacker.close()
    return b"".join(parts)


@given(st.sampled_from(sorted(PACKERS)), st.binary(max_size=2000), st.integers(1, 300))
def test_what_was_packed_comes_out_whole(encoding: str, data: bytes, step: int) -> None:
    assert unpacked(encoding, PACKERS[encoding](data), len(data), step) == data


@given(st.binary(min_size=1, max_size=500))
def test_deflate_without_its_header_is_understood(data: bytes) -> None:
    assert unpacked("deflate", raw_deflate(data), len(data)) == data


def test_several_gzip_members_are_one_text() -> None:
    assert unpacked("gzip", gzip.compress(b"one ") + gzip.compress(b"two"), 100, 1000) == b"one two"
    assert unpacked("gzip", gzip.compress(b"one ") + gzip.compress(b"two"), 100, 5) == b"one two"


@given(st.sampled_from(sorted(PACKERS)), st.integers(0, 999), st.integers(1, 2000))
def test_one_byte_more_than_there_is_room_for_shows_that_it_does_not_fit(encoding: str, room: int, step: int) -> None:
    assert len(unpacked(encoding, PACKERS[encoding](b"0" * 1000), room, step)) == room + 1


def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    tracemalloc.start()
    try:
        assert len(unpacked("gzip", bomb, 1000, len(bomb))) == 1001
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_data_that_stop_in_the_middle_are_damaged(encoding: str) -> None:
    with pytest.raises(Damaged):
        unpacked(encoding, PACKERS[encoding](bytes(range(256)))[:-10], 1000)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_data_that_are_something_else_are_damaged(encoding: str) -> None:
    with pytest.raises(Damaged):
        unpacked(encoding, b"\xff" * 100, 1000)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress"])
def test_other_encodings_are_not_understood(encoding: str) -> None:
    with pytest.raises(LookupError):
        Unpacker(encoding)
