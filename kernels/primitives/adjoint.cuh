// adjoint.cuh: what device solvers of pass backward share: da over the batch, where a channel's gradients first were not numbers, and the host side of
// those with a thread a channel.
#pragma once

#include <algorithm>
#include <vector>

#include "kernels/primitives/adjoint.hpp"
#include "kernels/primitives/channel.cuh"
#include "kernels/primitives/policy.hpp"

namespace prnn::PRNN_BACKEND {

#ifndef __CUDACC_RTC__
/// Host: enqueues sums [B, weights] of each batch entry -> da [weights], a thread an element, in the order of the batch.
void combine_batch_on(std::int64_t batch, std::int64_t weights, const CompensatedSum<float>* sums, bool accumulate, float* da, void* stream);
void combine_batch_on(std::int64_t batch, std::int64_t weights, const CompensatedSum<double>* sums, bool accumulate, double* da, void* stream);
#endif

/// Positions of gradients count steps from the end: the smallest is where the pass first met NaN. Among steps `from` down to `to`, or `to`.
template <class Cell, class T>
PRNN_DEVICE std::int64_t first_nan_gradient(const Layout<Cell>& at, const T* du, const Place& place, std::int64_t from, std::int64_t to) {
  while (from > to && to_compute(du[at.u(place.b, from, 0, place.d)]) == to_compute(du[at.u(place.b, from, 0, place.d)])) --from;
  return at.position(place.b, at.seq_len - 1 - from, place.d);
}

/// As report_first_nonfinite() (channel.cuh). `bad`: this thread's channel exists and its dh0 is not finite.
template <class Cell, class T>
PRNN_DEVICE void report_first_nan_gradient(const Layout<Cell>& at, const T* du, bool bad, const Place& place, std::int64_t* slot) {
  if (thread_index() == 0) *slot = kNowhere;
  barrier();
  if (bad) atomic_min(slot, first_nan_gradient(at, du, place, at.seq_len - 1, 0));
}

#ifndef __CUDACC_RTC__
/// (b, l, d) of such a position; none for kNowhere. Host.
template <class Cell>
std::optional<std::array<std::int64_t, 3>> place_of_gradient(const Layout<Cell>& at, std::int64_t position) {
  auto place = place_of(at, position);
  if (place) (*place)[1] = at.seq_len - 1 - (*place)[1];
  return place;
}

/// The host side of the solvers with a thread a channel.
template <class Cell, class T>
class SequentialBackwardRun : public Run {
 protected:
  using C = compute_t<T>;

 public:
  static constexpr const char* kPass = "backward";
  static constexpr bool kIterates = false, kDeterministic = true;
  static std::int64_t workspace_bytes(const Problem& p) { return sums_bytes(p) + blocks_for(p) * std::int64_t(sizeof(std::int64_t)); }

  Policy policy() const override { return {{"threads", policy_.threads}}; }
  Outcome outcome() override {
    std::vector<std::int64_t> first(static_cast<std::size_t>(blocks_));
    machine_.download(first.data(), nonfinite_.data(), nonfinite_.bytes());
    return {.nonfinite = place_of_gradient(at_, *std::min_element(first.begin(), first.end()))};
  }

 protected:
  SequentialBackwardRun(const Problem& p, Machine& machine)
      : at_(layout_of<Cell>(p)),
        policy_(sequential_policy(p)),
        blocks_(blocks_for(p)),
        accumulate_(p.accumulate_da),
        machine_(machine),
        sums_(machine, sums_bytes(p)),
        nonfinite_(machine, blocks_ * std::int64_t(sizeof(std::int64_t))) {}

  /// kernel(at, extra .., tensors, sums, nonfinite) on every channel.
  template <class Kernel, class... Extra>
  void enqueue(Kernel* kernel, const BackwardTensors<T>& t, Stream stream, Extra... extra) {
    launch_kernel(kernel, blocks_, policy_.threads, stream, at_, extra..., t, sums_.as<CompensatedSum<C>>(), nonfinite_.as<std::int64_t>());
  }
  /// da from the sums of all batch entries.
  void enqueue_combine(const BackwardTensors<T>& t, Stream stream) {
    combine_batch_on(at_.batch, at_.a(Cell::kWeights, 0), sums_.as<const CompensatedSum<C>>(), accumulate_, t.da, stream);
  }

  const Layout<Cell> at_;

 private:
  static std::int64_t blocks_for(const Problem& p) { return ceil_div(p.batch * p.hidden, sequential_policy(p).threads); }
  static std::int64_t sums_bytes(const Problem& p) { return p.batch * Cell::kWeights * p.hidden * std::int64_t(sizeof(CompensatedSum<C>)); }
  /// The name `launch` is the member's here.
  template <class Kernel, class... Arguments>
  static void launch_kernel(Kernel* kernel, std::int64_t blocks, int threads, Stream stream, Arguments... arguments) {
    prnn::PRNN_BACKEND::launch(kernel, blocks, threads, 0, stream, arguments...);
  }

  const SequentialPolicy policy_;
  const std::int64_t blocks_;
  const bool accumulate_;
  Machine& machine_;
  const Buffer sums_;       // [B, kWeights, D] CompensatedSum<C>
  const Buffer nonfinite_;  // [blocks] int64
};
#endif

}  // namespace prnn::PRNN_BACKEND
