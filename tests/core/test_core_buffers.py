"""The buffer pool: whatever its users do, no buffer ever has two owners."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from nimloop_core import BufferPool, Loop


def test_a_buffer_has_the_size_of_its_pool() -> None:
    """It is writable and as long as was asked for."""
    pool = BufferPool(100)
    buffer = pool.acquire()
    assert len(buffer) == pool.size == 100
    buffer[:] = b"x" * 100
    assert (pool.lent, pool.free) == (1, 0)


def test_a_buffer_is_used_again() -> None:
    """What came back is what goes out next, with its content."""
    pool = BufferPool(4)
    buffer = pool.acquire()
    buffer[:] = b"abcd"
    pool.release(buffer)
    assert (pool.lent, pool.free) == (0, 1)
    again = pool.acquire()
    assert again is buffer
    assert again == b"abcd"


def test_a_pool_tells_who_has_its_buffers() -> None:
    """As `lent` and `free` do."""
    pool = BufferPool(4)
    pool.release(pool.acquire())
    pool.acquire()
    pool.acquire()
    assert repr(pool) == "<BufferPool size=4 lent=2 free=0>"


@pytest.mark.parametrize(("size", "limit"), [(0, 1), (-1, 1), (1, -1)])
def test_pools_that_make_no_sense_are_refused(size: int, limit: int) -> None:
    """Buffers have bytes, and a limit counts."""
    with pytest.raises(ValueError):
        BufferPool(size, limit)


@pytest.mark.parametrize("limit", [0, 1, 7])
def test_no_more_than_the_limit_is_kept(limit: int) -> None:
    """The rest is given back to the system."""
    pool = BufferPool(8, limit)
    lent = [pool.acquire() for _ in range(10)]
    for buffer in lent:
        pool.release(buffer)
    assert (pool.lent, pool.free) == (0, limit)


@pytest.mark.parametrize("limit", [0, 5])
def test_a_buffer_comes_back_once(limit: int) -> None:
    """The second time is refused, whether or not the pool has kept it."""
    pool = BufferPool(8, limit)
    buffer = pool.acquire()
    pool.release(buffer)
    with pytest.raises(ValueError):
        pool.release(buffer)
    assert (pool.lent, pool.free) == (0, limit and 1)


def test_a_buffer_from_elsewhere_is_refused() -> None:
    """Neither one of another pool, nor one of nobody's, nor an equal one."""
    pool, other = BufferPool(8), BufferPool(8)
    buffer = pool.acquire()
    for foreign in (other.acquire(), bytearray(8), bytearray(buffer)):
        with pytest.raises(ValueError):
            pool.release(foreign)
    assert (pool.lent, pool.free) == (1, 0)


def test_the_place_of_a_lost_buffer_is_no_ticket() -> None:
    """Many buffers are dropped without being given back; strangers that could take their addresses are refused."""
    pool = BufferPool(64)
    for _ in range(100):
        pool.acquire()
    assert pool.lent == 100
    strangers = [bytearray(64) for _ in range(200)]
    for stranger in strangers:
        with pytest.raises(ValueError):
            pool.release(stranger)
    assert pool.free == 0


def test_a_resized_buffer_is_refused() -> None:
    """It stays lent, and is welcome once it has its size again."""
    pool = BufferPool(8)
    buffer = pool.acquire()
    buffer.append(0)
    with pytest.raises(ValueError):
        pool.release(buffer)
    del buffer[4:]
    with pytest.raises(ValueError):
        pool.release(buffer)
    assert (pool.lent, pool.free) == (1, 0)
    buffer.extend(b"1234")
    pool.release(buffer)
    assert (pool.lent, pool.free) == (0, 1)


def test_a_buffer_that_somebody_still_looks_at_is_refused() -> None:
    """A view would show what the next owner reads."""
    pool = BufferPool(8)
    buffer = pool.acquire()
    buffer[:] = b"12345678"
    view = memoryview(buffer)[2:4]
    with pytest.raises(ValueError):
        pool.release(buffer)
    assert pool.lent == 1
    view.release()
    pool.release(buffer)
    assert buffer == b"12345678"
    assert pool.free == 1


def test_a_thousand_owners_never_see_each_other() -> None:
    """Each finds in its buffer what it wrote there, however many came and went meanwhile."""
    pool = BufferPool(16, 32)
    owned: dict[int, bytearray] = {}
    for owner in range(5_000):
        if len(owned) == 1_000:
            leaving = owner * 7_919 % 1_000
            key = list(owned)[leaving]
            assert owned[key] == key.to_bytes(16)
            pool.release(owned.pop(key))
        owned[owner] = pool.acquire()
        owned[owner][:] = owner.to_bytes(16)
    for owner, buffer in owned.items():
        assert buffer == owner.to_bytes(16)
    assert len({id(buffer) for buffer in owned.values()}) == pool.lent == 1_000


def test_a_closed_pool_keeps_nothing() -> None:
    """What was unused is gone, and what comes back later too; a buffer still comes back once."""
    pool = BufferPool(4)
    early, late = pool.acquire(), pool.acquire()
    pool.release(early)
    pool.close()
    assert (pool.lent, pool.free) == (1, 0)
    pool.release(late)
    with pytest.raises(ValueError):
        pool.release(late)
    pool.close()
    assert (pool.lent, pool.free) == (0, 0)


def test_closing_the_loop_closes_its_pool(loop: Loop) -> None:
    """A buffer that outlives the loop is not kept for the next user, of whom there will be none."""
    buffer = loop.buffers.acquire()
    loop.buffers.release(loop.buffers.acquire())
    loop.close()
    loop.buffers.release(buffer)
    assert loop.buffers.free == 0


def test_the_loop_lends_its_own_read_buffer_from_its_pool(loop: Loop) -> None:
    """Nobody else gets the one that everybody reads into."""
    assert loop.buffers.lent == 1
    buffer = loop.buffers.acquire()
    assert len(buffer) == len(loop.read_buffer) == loop.buffers.size
    buffer[0] = 1
    loop.read_buffer[0] = 2
    assert buffer[0] == 1
    loop.buffers.release(buffer)


class PoolMachine(RuleBasedStateMachine):
    """Any program of owners, among them careless ones; each writes its own mark and expects to find it."""

    buffers: Bundle[int] = Bundle("buffers")

    def __init__(self) -> None:
        super().__init__()
        self.limit = 3
        self.pool = BufferPool(12, self.limit)
        self.owned: dict[int, bytearray] = {}
        self.gone: list[bytearray] = []
        self.lost = 0
        self.mark = 0

    @rule(target=buffers)
    def acquire(self) -> int:
        """Become an owner."""
        self.mark += 1
        buffer = self.pool.acquire()
        assert not any(buffer is other for other in self.owned.values())
        assert len(buffer) == 12
        buffer[:] = self.mark.to_bytes(12)
        self.owned[self.mark] = buffer
        return self.mark

    @rule(mark=consumes(buffers))
    def release(self, mark: int) -> None:
        """Give it back as it should be."""
        free = self.pool.free
        buffer = self.owned.pop(mark)
        self.pool.release(buffer)
        self.gone.append(buffer)
        assert self.pool.free == min(free + 1, self.limit)

    @rule(mark=consumes(buffers))
    def lose(self, mark: int) -> None:
        """Drop it."""
        lost = self.owned.pop(mark)
        self.lost += 1
        self.gone = [each for each in self.gone if each is not lost]

    @rule(data=st.data())
    def release_again(self, data: st.DataObject) -> None:
        """Give back what was given back before and has no owner since."""
        old = [each for each in self.gone if not any(each is other for other in self.owned.values())]
        if old:
            with pytest.raises(ValueError):
                self.pool.release(data.draw(st.sampled_from(old)))

    @rule()
    def release_foreign(self) -> None:
        """Give back what was never lent."""
        with pytest.raises(ValueError):
            self.pool.release(bytearray(12))

    @rule(mark=buffers, resized=st.binary(max_size=30))
    def release_resized(self, mark: int, resized: bytes) -> None:
        """Give it back with another size, then put it right."""
        buffer = self.owned[mark]
        content = bytes(buffer)
        buffer[:] = resized
        if len(resized) != 12:
            with pytest.raises(ValueError):
                self.pool.release(buffer)
        buffer[:] = content

    @invariant()
    def everybody_sees_their_own(self) -> None:
        """Compare every mark, and the counters."""
        for mark, buffer in self.owned.items():
            assert buffer == mark.to_bytes(12)
        assert self.pool.lent == len(self.owned) + self.lost
        assert self.pool.free <= self.limit


TestPool = PoolMachine.TestCase
TestPool.settings = settings(stateful_step_count=60)
