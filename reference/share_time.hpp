// share_time.hpp: independent channels on every core, under one limit of wall-clock seconds.
#pragma once

#include <cstddef>
#include <functional>

#include "reference/reference.hpp"

namespace prnn {

/// Infinite (or practically so) seconds: no deadline.
Deadline after(double seconds);
double seconds_since(std::chrono::steady_clock::time_point start);

/// work(i, deadline) for i = 0 .. count - 1, begun in that order. Of every `group` that follow each other, each has its fair share of the seconds that
/// are left; the next group has what these leave. Rethrows the first failure, after which nothing is begun. Returns the seconds spent.
double share_time(std::size_t count, std::size_t group, double limit_s, const std::function<void(std::size_t, Deadline)>& work);

}  // namespace prnn
