// sequential.cuh: the host side that seq_stepwise and seq_fused share.
#pragma once

#include <algorithm>
#include <vector>

#include "kernels/primitives/channel.cuh"
#include "kernels/primitives/policy.hpp"
#include "kernels/primitives/register.hpp"

namespace prnn::PRNN_BACKEND {

#ifndef __CUDACC_RTC__
/// One thread a channel (or V neighbouring ones); a slot a block for the first state that is not finite.
template <class Cell, class T>
class SequentialRun : public Run {
 public:
  static constexpr bool kIterates = false, kDeterministic = true;
  static std::int64_t workspace_bytes(const Problem& p) { return ceil_div(p.batch * p.hidden, kWarp) * std::int64_t(sizeof(std::int64_t)); }

  Policy policy() const override { return {{"threads", threads_}}; }
  Outcome outcome() override {
    std::vector<std::int64_t> first(static_cast<std::size_t>(blocks_));
    machine_.download(first.data(), nonfinite_.data(), blocks_ * std::int64_t(sizeof(std::int64_t)));
    return {.nonfinite = place_of(at_, *std::min_element(first.begin(), first.end()))};
  }

 protected:
  SequentialRun(const Problem& p, Machine& machine) : SequentialRun(p, machine, sequential_policy(p).threads, 1) {}
  SequentialRun(const Problem& p, Machine& machine, int threads, int channels_a_thread)
      : at_(layout_of<Cell>(p)), threads_(threads), blocks_(ceil_div(at_.channels() / channels_a_thread, threads)), machine_(machine), nonfinite_(machine, workspace_bytes(p)) {}

  const Layout<Cell> at_;
  const int threads_;  // a block
  const std::int64_t blocks_;
  Machine& machine_;
  const Buffer nonfinite_;  // [blocks_] int64, or more
};
#endif  // __CUDACC_RTC__

}  // namespace prnn::PRNN_BACKEND
