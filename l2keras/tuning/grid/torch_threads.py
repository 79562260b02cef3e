"""How many threads PyTorch had better use for one step of a search.

Two threads may halve the time of a step on a quiet machine. Where other
processes keep the processor busy, they may take twenty times as long as one:
after each operation they wait for the one that was interrupted, and small
tensors make many operations. Whether anybody else is there cannot be asked, but
what a step takes can be measured.
"""

import contextlib
import math
from collections.abc import Iterator


class MeasuredThreads:
    """Finds the number of threads with which steps take the least time.

    Begins with one. From time to time twice or half as many are tried for a few
    steps, and kept if these take less time. What takes more is given up before
    the steps are over, and not tried again for as long as makes the loss small.
    Where steps suddenly take longer, half as many are tried at once.

    Args:
        most: The greatest number of threads.

    Attributes:
        number: The number of threads for the next step.
    """

    # One step may be interrupted by chance, and so may a few.
    STEPS = 6
    # A trial is kept if it takes less than this of the time, and given up when
    # it has taken more than that.
    GAIN, LOSS = 0.8, 1.2
    # What trials may lose, of all the time.
    COST = 0.05

    def __init__(self, most: int) -> None:
        self.number = 1
        self._most = most
        self._usual = 1  # The number when none is tried.
        self._before = math.inf  # What `STEPS` took with it.
        self._steps: list[float] = []
        self._tries_more = True
        self._elapsed = 0.0
        self._next_trial = 0.0

    def note(self, seconds: float) -> None:
        """Notes what a step took, with `number` threads."""
        self._elapsed += seconds
        self._steps.append(seconds)
        is_trial = self.number != self._usual
        total, number = sum(self._steps), len(self._steps)
        is_slow = total > (self.LOSS if is_trial else 2.0) * self._before
        if number < self.STEPS and not is_slow:
            return
        self._steps = []
        if not is_trial:
            self._before = total * self.STEPS / number
            if is_slow and self._usual > 1:
                self._try(more=False)
            elif self._elapsed >= self._next_trial:
                self._try(self._tries_more)
            return
        lost = total - self._before * number / self.STEPS
        if total < self.GAIN * self._before:
            self._usual, self._before = self.number, total
            if self._other(self._tries_more) is not None:
                return  # And on.
        self.number = self._usual
        self._tries_more = not self._tries_more
        # There is something to lose even if it took no longer this time.
        wait = max(lost, self._before / 4) / self.COST
        self._next_trial = self._elapsed + wait

    def _try(self, more: bool) -> None:
        """Has the next steps done by more threads or by fewer, if it can be."""
        for tries_more in (more, not more):
            other = self._other(tries_more)
            if other is not None:
                self.number, self._tries_more = other, tries_more
                return

    def _other(self, more: bool) -> int | None:
        """Returns the next number, if there is one."""
        other = 2 * self._usual if more else self._usual // 2
        return other if 1 <= other <= self._most else None


@contextlib.contextmanager
def number_of_threads_kept() -> Iterator[None]:
    """Puts PyTorch's number of threads back to what it was, in any case."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
