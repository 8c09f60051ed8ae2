// share_time.hpp: independent channels on every core, under one limit of wall-clock seconds.
#pragma once

#include <algorithm>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "reference/mp.hpp"

namespace prnn {

/// Infinite (or practically so) seconds: no deadline.
inline Deadline after(double seconds) {
  using Clock = std::chrono::steady_clock;
  return seconds > 1e9 ? kNoDeadline : Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}
inline double seconds_since(std::chrono::steady_clock::time_point start) { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); }

/// work(i, deadline) for i = 0 .. count - 1, begun in that order. Of every `group` that follow each other, each has its fair share of the seconds that
/// are left; the next group has what these leave. Rethrows the first failure, after which nothing is begun. Returns the seconds spent.
template <class Work>
double share_time(std::size_t count, std::size_t group, double limit_s, Work&& work) {
  const auto start = std::chrono::steady_clock::now();
  const std::size_t threads = std::min<std::size_t>(count, std::max(1u, std::thread::hardware_concurrency()));
  std::size_t next = 0;
  std::exception_ptr failure;
  std::mutex mutex;
  const auto run = [&] {
    const MpThread mp_thread;
    for (;;) {
      std::unique_lock lock(mutex);
      if (next == count || failure) return;
      const std::size_t i = next++, waiting = std::min(count, (i / group + 1) * group) - i;
      lock.unlock();
      const double rounds = std::max(1.0, double(waiting) / double(threads));
      try {
        work(i, after((limit_s - seconds_since(start)) / rounds));
      } catch (...) {
        lock.lock();
        if (!failure) failure = std::current_exception();
      }
    }
  };
  std::vector<std::thread> pool;
  for (std::size_t t = 0; t < threads; ++t) pool.emplace_back(run);
  for (std::thread& thread : pool) thread.join();
  if (failure) std::rethrow_exception(failure);
  return seconds_since(start);
}

}  // namespace prnn
