// share_time.cpp: a pool of threads that take the next channel until none or no time is left.
#include "reference/share_time.hpp"

#include <algorithm>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "reference/mp.hpp"

namespace prnn {

using Clock = std::chrono::steady_clock;

Deadline after(double seconds) { return seconds > 1e9 ? kNoDeadline : Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds)); }

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double share_time(std::size_t count, std::size_t group, double limit_s, const std::function<void(std::size_t, Deadline)>& work) {
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
