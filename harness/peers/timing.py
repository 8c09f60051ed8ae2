"""Times launches between two events of the GPU, or by the steady clock on the CPU, by the paper's protocol or ours (design section 7)."""

import ctypes
import random
import statistics
import time

try:
    import torch
except ImportError:
    torch = None  # the CPU's clock needs none

SLOW_S = 0.05  # a case that takes longer has few samples
FEW = 3
LONG_QUEUE_S = 0.05  # what takes the host longer to queue is not held back: the queue of a GPU is not endless
WARM_UPS = {"paper": 20, "ours": 10}
SAMPLES = {"paper": 100, "ours": 50}
SAMPLES_KEPT = 200  # in a row
MOST_S = 3.0  # of a case's samples
RESAMPLES = 200


class Clock:
    """device: cpu | cuda."""

    def __init__(self, device):
        self.device = device
        self.cuda = device == "cuda"
        self._cycles_a_s = None

    def wait(self):
        if self.cuda:
            torch.cuda.synchronize()

    def eraser(self, size):
        """A call that writes over `size` bytes of the device's memory, its own."""
        if self.cuda:
            return torch.empty(size, dtype=torch.uint8, device=self.device).zero_
        memory = ctypes.create_string_buffer(size)
        return lambda: ctypes.memset(memory, 0, size)

    def hold(self, seconds):
        """Keeps the stream busy for about so long, so that the host is ahead of it."""
        if self._cycles_a_s is None:
            cycles = 10_000_000
            taken_s, _ = self.once(lambda: torch.cuda._sleep(cycles))
            self._cycles_a_s = cycles / taken_s
        torch.cuda._sleep(int(seconds * self._cycles_a_s))

    def once(self, launch, before=lambda: None):
        """(seconds of the device, seconds of the host to queue it, on the cpu to do it) of one launch. before: is queued first, and not timed."""
        self.wait()
        before()
        if not self.cuda:
            started = time.perf_counter()
            launch()
            taken = time.perf_counter() - started
            return taken, taken
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        started = time.perf_counter()
        start.record()
        launch()
        end.record()
        queued_s = time.perf_counter() - started
        end.synchronize()
        return start.elapsed_time(end) * 1e-3, queued_s


class Measurement:
    """How a case is measured. protocol: ours | paper. cold_bytes: written over before each launch, so that the last-level cache holds nothing of it; 0: hot."""

    def __init__(self, clock, protocol, cold_bytes):
        self._clock, self._protocol = clock, protocol
        self._erase = clock.eraser(cold_bytes) if cold_bytes else None

    def measure(self, launch, queued):
        """queued: held back while the host queues, where that is short. Returns the fields time_s, samples_s and host_s of a row."""
        hold_s = 0.0

        def before():
            if self._erase:
                self._erase()
            if hold_s > 0:
                self._clock.hold(hold_s)

        self._clock.once(launch, before)  # the first launch of all loads code and takes memory
        device_s, host_s = self._clock.once(launch, before)
        slow = device_s > SLOW_S
        for _ in range(1 if slow else WARM_UPS[self._protocol]):
            device_s, host_s = self._clock.once(launch, before)
        if queued and self._clock.cuda and host_s < LONG_QUEUE_S:
            hold_s = 2 * host_s + 1e-4
        wanted, samples, hosts, started = FEW if slow else SAMPLES[self._protocol], [], [], time.perf_counter()
        while len(samples) < FEW or (len(samples) < wanted and time.perf_counter() - started < MOST_S):
            device_s, host_s = self._clock.once(launch, before)
            samples.append(device_s)
            hosts.append(host_s)
        median = statistics.median(samples)
        low, high = interval(samples)
        how = "steady clock" if not self._clock.cuda else "two events behind a delay that is over when all is queued" if hold_s else "two events around what the host queues"
        method = f"{how}, protocol {self._protocol}" + (", the cache written over before each" if self._erase else "")
        return {"time_s": {"median": median, "min": min(samples), "mean": statistics.fmean(samples), "mad": statistics.median([abs(x - median) for x in samples]), "ci95_low": low,
                           "ci95_high": high, "samples": len(samples), "method": method},
                "samples_s": samples[:SAMPLES_KEPT], "host_s": statistics.median(hosts)}


def resampled_medians(samples, seed):
    draw = random.Random(seed)
    return [statistics.median(draw.choices(samples, k=len(samples))) for _ in range(RESAMPLES)]


def percentiles(values):
    """2.5 % and 97.5 %."""
    values = sorted(values)
    return values[round(0.025 * (len(values) - 1))], values[round(0.975 * (len(values) - 1))]


def interval(samples):
    """Percentile bootstrap of the median, 95 %, from a fixed seed."""
    return percentiles(resampled_medians(samples, 1))


def ratio(baseline_samples, samples):
    """A row's speedup: median of the baseline over this one's, with its bootstrap interval."""
    low, high = percentiles([a / b for a, b in zip(resampled_medians(baseline_samples, 1), resampled_medians(samples, 2))])
    return {"ratio": statistics.median(baseline_samples) / statistics.median(samples), "ci95_low": low, "ci95_high": high}
