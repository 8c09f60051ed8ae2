// sequential.cuh: what the sequential solvers share: the step kernel of seq_stepwise and seq_graph, and the host side of all three.
#pragma once

#include <algorithm>
#include <vector>

#include "kernels/primitives/channel.cuh"
#include "kernels/primitives/policy.hpp"
#include "kernels/primitives/register.hpp"

namespace prnn::PRNN_BACKEND {

/// Step l of every channel, a thread each. The state travels between launches in `last` [B, kState, D], in compute type.
template <class Cell, class T>
PRNN_KERNEL step_kernel(Layout<Cell> at, std::int64_t l, RecurrenceTensors<T> t, std::int64_t* nonfinite) {
  const std::int64_t channel = block_index() * thread_count() + thread_index();
  const Place place = place_of_channel(at, channel);
  const std::int64_t b = place.b, d = place.d;
  bool bad = false;
  if (channel < at.channels()) {
    compute_t<T> a[Cell::kWeights], u[Cell::kInputs], h[Cell::kState], next[Cell::kState];
    load_weights(at, t, d, a);
    if (l == 0) {
      load_start(at, t, b, d, a, h);
    } else {
      PRNN_UNROLL for (int i = 0; i < Cell::kState; ++i) h[i] = t.last[at.edge(b, i, d)];
    }
    load_inputs<Cell>(t.u + at.u(b, l, 0, d), at.hidden, u);
    guard_inputs<Cell>(u);
    Cell::step(h, a, u, next);
    store_step(at, t, b, l, d, next);
    store_last(at, t, b, d, next);
    bad = !all_finite(next);
  }
  if (l + 1 == at.seq_len) report_first_nonfinite(at, t.h, bad, place, nonfinite + block_index());
}

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

  /// seq_len launches of the step kernel.
  void enqueue_steps(const RecurrenceTensors<T>& t, Stream stream) {
    for (std::int64_t l = 0; l < at_.seq_len; ++l) prnn::PRNN_BACKEND::launch(&step_kernel<Cell, T>, blocks_, threads_, 0, stream, at_, l, t, nonfinite_.as<std::int64_t>());
  }

  const Layout<Cell> at_;
  const int threads_;  // a block
  const std::int64_t blocks_;
  Machine& machine_;
  const Buffer nonfinite_;  // [blocks_] int64, or more
};

}  // namespace prnn::PRNN_BACKEND
