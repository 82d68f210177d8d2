"""Shares of a job: who gets what, alone and in two real processes."""

import subprocess
import sys
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samptag.errors import UsageError
from samptag.ranks import Ranks, deal


@pytest.fixture
def no_ranks(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_ranks_come_from_the_environment(no_ranks):
    assert Ranks.from_environment() == Ranks(rank=0, world_size=1, local_rank=0)
    no_ranks.setenv("WORLD_SIZE", "4")
    no_ranks.setenv("RANK", "3")
    no_ranks.setenv("LOCAL_RANK", "1")
    assert Ranks.from_environment() == Ranks(rank=3, world_size=4, local_rank=1)
    assert Ranks.from_environment().device("cpu") == "cpu"
    assert not Ranks.from_environment().leads
    no_ranks.setenv("RANK", "first")
    with pytest.raises(UsageError, match="RANK"):
        Ranks.from_environment()


@given(st.lists(st.integers(1, 1000), max_size=400), st.integers(1, 7))
def test_no_process_has_more_than_its_part_and_the_largest_item(sizes, world_size):
    owners = deal(sizes, world_size)
    load = [sum(size for size, owner in zip(sizes, owners, strict=True) if owner == rank) for rank in range(world_size)]
    assert sum(load) == sum(sizes)
    assert max(load) <= sum(sizes) / world_size + max(sizes, default=0)


def test_the_largest_are_dealt_first():
    assert deal([1, 2, 3, 4], 2) == [0, 1, 1, 0]


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 9))
def test_rows_are_equal_parts_in_order(first, n, world_size):
    parts = [range(100)[Ranks(rank=rank, world_size=world_size).rows(first, first + n)] for rank in range(world_size)]
    assert [row for part in parts for row in part] == list(range(first, first + n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_process_alone_imports_no_torch():
    code = """
        import sys
        from samptag.ranks import Ranks
        ranks = Ranks.from_environment()
        with ranks.joined():
            assert ranks.collect("mine") == ["mine"]
            assert list(ranks.spread([1, 2], lambda items: (2 * item for item in items), size=abs)) == [2, 4]
        print("torch" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False\n", "")


@pytest.fixture
def two_processes(run_ranks, warm_environment):
    return lambda code: run_ranks(["-c", textwrap.dedent(code)], env=warm_environment)


def test_two_processes_share_items_and_both_get_all_results_in_order(two_processes):
    """Rank 1 gives other items, which do not count; 300 of them are three rounds."""
    both = two_processes("""
        from samptag.ranks import Ranks
        ranks = Ranks.from_environment()
        mine = []
        def work(items):
            for item in items:
                mine.append(item)
                yield item, ranks.rank
        with ranks.joined():
            found = list(ranks.spread(list(range(300)) if ranks.leads else ["other"], work, size=lambda item: 1 + item))
            assert [item for item, _ in found] == list(range(300))
            assert mine == [item for item, rank in found if rank == ranks.rank]
            assert ranks.collect(len(mine))[ranks.rank] == len(mine)
            loads = ranks.collect(sum(mine))
            assert abs(loads[0] - loads[1]) < 300, loads
    """)
    for done in both:
        assert done.returncode == 0, done.stderr


def test_processes_join_again_after_they_have_parted(two_processes):
    both = two_processes("""
        from samptag.ranks import Ranks
        ranks = Ranks.from_environment()
        for turn in range(2):
            with ranks.joined():
                print(ranks.collect(turn))
    """)
    for done in both:
        assert (done.returncode, done.stdout) == (0, "[0, 0]\n[1, 1]\n"), done.stderr


def test_a_process_that_ends_is_noticed_by_the_other(two_processes):
    left, dead = two_processes("""
        import os
        from samptag.errors import SamptagError
        from samptag.ranks import Ranks
        ranks = Ranks.from_environment()
        try:
            with ranks.joined():
                ranks.collect(0)  # both have joined
                if not ranks.leads:
                    os._exit(3)
                ranks.collect(1)
        except SamptagError as error:
            print(error)
    """)
    assert dead.returncode == 3, dead.stderr
    assert left.stdout == "another of the 2 processes has ended; its own message says why\n", left.stderr
