"""What is set in the environment before torch's libraries read it; processes that share work."""

import os
import platform
import signal
import subprocess
import sys

import pytest

from asr import machine
from asr.errors import AsrError
from asr.machine import in_order

SHOW = "import os; print(os.environ['OMP_WAIT_POLICY'], 'torch' in __import__('sys').modules)"


@pytest.mark.parametrize(("own", "expected"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise(own, expected):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | own
    code = "import asr; asr.Config; " + SHOW
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [expected, "False"]


def test_importing_the_package_changes_nothing():
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    code = "import asr, os; print('OMP_WAIT_POLICY' in os.environ)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def halved(number):
    if number < 0:
        raise AsrError(f"{number} is below 0")
    if number == 1000:
        os.kill(os.getpid(), signal.SIGKILL)
    return number / 2


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_items(processes):
    assert list(in_order(halved, range(50), processes)) == [number / 2 for number in range(50)]
    with pytest.raises(AsrError, match="-1 is below 0"):
        list(in_order(halved, [4, -1, 6], processes))


def test_items_are_taken_a_few_at_a_time():
    taken = []
    results = in_order(halved, (taken.append(number) or number for number in range(1000)), 2)
    assert next(results) == 0
    assert len(taken) < 20
    results.close()


def test_a_process_that_is_killed_is_an_error():
    with pytest.raises(AsrError, match="a worker process was killed"):
        list(in_order(halved, [1, 1000, 2], 2))


MAPPED = """
import ctypes
from asr.machine import large_blocks_returned

class Statistics(ctypes.Structure):  # mallinfo2 of malloc.h
    _fields_ = [("before", 3 * ctypes.c_size_t), ("mapped_blocks", ctypes.c_size_t), ("after", 6 * ctypes.c_size_t)]

library = ctypes.CDLL(None)
library.malloc.restype, library.mallinfo2.restype = ctypes.c_void_p, Statistics

def is_mapped(size):
    before = library.mallinfo2().mapped_blocks
    block = ctypes.c_void_p(library.malloc(size))
    mapped = library.mallinfo2().mapped_blocks - before
    library.free(block)
    return mapped == 1

with large_blocks_returned():
    inside = is_mapped(3 << 20), is_mapped(1 << 20)
print(*inside, is_mapped(3 << 20))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps large blocks")
def test_large_blocks_go_back_to_the_system_within_the_block_and_stay_after_it():
    done = subprocess.run([sys.executable, "-c", MAPPED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "False"]


def test_allocator_settings_of_the_user_stay(monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=1000000")
    machine._allocator.cache_clear()
    assert machine._allocator() is None
    machine._allocator.cache_clear()
