// share_time.test.cpp: who gets how much of the time, and that a failure ends the work.
#include <algorithm>
#include <atomic>
#include <limits>
#include <stdexcept>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "reference/share_time.hpp"

namespace prnn {
namespace {

const std::size_t kThreads = std::max(1u, std::thread::hardware_concurrency());

TEST(ShareTime, SharesFairlyWithinAGroup) {
  // Two rounds of work in each of three groups: who begins one has half of what is left, who ends it has all, and nobody takes any.
  std::vector<double> share_s(6 * kThreads, 0);
  share_time(share_s.size(), 2 * kThreads, 1000,
             [&](std::size_t i, Deadline deadline) { share_s[i] = std::chrono::duration<double>(deadline - std::chrono::steady_clock::now()).count(); });
  for (std::size_t i = 0; i < share_s.size(); ++i) {
    const double rounds = std::max(1.0, double(2 * kThreads - i % (2 * kThreads)) / double(kThreads));
    EXPECT_NEAR(share_s[i], 1000 / rounds, 100) << i;  // 100 s: a machine that stands still
  }
}

TEST(ShareTime, WithoutALimitThereIsNoDeadline) {
  std::atomic<int> done{0};
  share_time(10, 10, std::numeric_limits<double>::infinity(), [&](std::size_t, Deadline deadline) { done += deadline == kNoDeadline; });
  EXPECT_EQ(done, 10);
  EXPECT_LT(share_time(0, 1, 1, [&](std::size_t, Deadline) { ++done; }), 1);
  EXPECT_EQ(done, 10);
}

TEST(ShareTime, BeginsNothingAfterAFailure) {
  std::atomic<int> begun{0};
  const auto work = [&](std::size_t i, Deadline) {
    ++begun;
    if (i == 0) throw std::runtime_error("first");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  };
  const int all = 1000 * int(kThreads);
  EXPECT_THROW(share_time(std::size_t(all), 1, 1000, work), std::runtime_error);
  EXPECT_LT(begun, all);
}

}  // namespace
}  // namespace prnn
