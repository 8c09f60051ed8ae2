// seq_fused_backward.cpp: the gradients of the recurrence, each channel's whole sequence in one pass from its last step; channels go side by side into vectors and to threads.
//   u [B, L, kInputs, D], a [kWeights, D], h0 [B, kState, D], h [B, L, kState, D], grad_h [B, L, G, D] (squares: none), grad_last [B, kState, D]
//   -> du [B, L, kInputs, D], da [kWeights, D], dh0 [B, kState, D]
// Source: Danieli et al. 2025 (arXiv:2510.21450), eq. 2.6, solved step by step; gates are computed again, nothing but h is stored.
#include "kernels/solvers/cpu/backward.hpp"
#include "kernels/solvers/cpu/lanes.hpp"

namespace prnn::cpu {
namespace {

template <class Cell, class T>
class SeqFusedBackward final : public Run {
  using C = compute_t<T>;
  using Lanes = AdjointLanes<Cell, C>;
  static constexpr int K = Cell::kState, W = Cell::kWeights, I = Cell::kInputs;

 public:
  static constexpr const char* kName = "seq_fused";
  static constexpr const char* kPass = "backward";
  static constexpr bool kIterates = false, kDeterministic = true;
  static std::int64_t workspace_bytes(const Problem& p) { return p.batch * W * p.hidden * std::int64_t(sizeof(CompensatedSum<C>)); }
  static std::string why_not(const Problem& p) { return p.iteration_limit ? "seq_fused has no iterations to limit" : vector_bytes_fault(p.policy); }

  SeqFusedBackward(const Problem& p, Machine&)
      : at_(layout_of<Cell>(p)), accumulate_(p.accumulate_da), vector_bytes_(chosen_vector_bytes(p)), sums_(std::size_t(at_.batch * at_.a(W, 0))) {}
  Policy policy() const override { return {{"vector_bytes", vector_bytes_}}; }
  int launches() const override { return 1; }

  void launch(const Tensors& tensors, Stream) override {
    const BackwardTensors<T> t(tensors);
    const std::int64_t groups = ceil_div(at_.channels(), Lanes::kLanes);
#pragma omp parallel for schedule(static) if (at_.position(at_.batch, 0, 0) > kStepsWorthThreads)
    for (std::int64_t group = 0; group < groups; ++group) walk_back(t, group * Lanes::kLanes, std::min(at_.channels(), (group + 1) * Lanes::kLanes));
    combine<Cell, T>(at_, sums_, accumulate_, t);
    first_nonfinite_ = first_nonfinite<Cell, T>(at_, t);
  }

  Outcome outcome() override { return {.nonfinite = first_nonfinite_}; }

 private:
  /// f(b, d, lane, width) for each run of neighbours among channels first .. end - 1.
  template <class F>
  void each_stretch(std::int64_t first, std::int64_t end, F&& f) const {
    for (std::int64_t channel = first; channel < end;) {
      const std::int64_t b = channel / at_.hidden, d = channel - b * at_.hidden, width = std::min(at_.hidden - d, end - channel);
      f(b, d, int(channel - first), int(width));
      channel += width;
    }
  }

  /// Channels first .. end - 1, at most kLanes, from the last step to the first; their sums of da.
  void walk_back(const BackwardTensors<T>& t, std::int64_t first, std::int64_t end) {
    Lanes s{};  // lanes that only fill the last vector compute with zeros
    const StepBack step_back = step_back_of(Cell::name, storage_of<C>, vector_bytes_);
    const int G = t.grad_components;
    const C factor = t.grad_factor();
    const auto load = [](C* to, const auto* from, int width) {
      for (int i = 0; i < width; ++i) to[i] = to_compute(from[i]);
    };
    each_stretch(first, end, [&](std::int64_t b, std::int64_t d, int lane, int width) {
      for (int k = 0; k < W; ++k) load(s.a[k] + lane, t.a + at_.a(k, d), width);
      for (int i = 0; i < K; ++i) load(s.g[i] + lane, t.grad_last + at_.edge(b, i, d), width);
    });
    for (std::int64_t l = at_.seq_len - 1; l >= 0; --l) {
      each_stretch(first, end, [&](std::int64_t b, std::int64_t d, int lane, int width) {
        for (int k = 0; k < I; ++k) load(s.u[k] + lane, t.u + at_.u(b, l, k, d), width);
        for (int i = 0; i < K; ++i) {
          if (l == 0) load(s.h_before[i] + lane, t.h0 + at_.edge(b, i, d), width);
          else load(s.h_before[i] + lane, t.h + at_.h(b, l - 1, i, d), width);
        }
        for (int k = 0; k < G; ++k) {
          const T* const grad = t.grad_h + t.grad_at(at_, b, l, k, d);
          C* const g = s.g[K - G + k] + lane;
          for (int i = 0; i < width; ++i) g[i] = g[i] + factor * to_compute(grad[i]);
        }
      });
      step_back(&s, int(end - first));
      each_stretch(first, end, [&](std::int64_t b, std::int64_t d, int lane, int width) {
        for (int k = 0; k < I; ++k) {
          for (int i = 0; i < width; ++i) t.du[at_.u(b, l, k, d) + i] = to_storage<T>(s.du[k][lane + i]);
        }
      });
    }
    each_stretch(first, end, [&](std::int64_t b, std::int64_t d, int lane, int width) {
      for (int i = 0; i < K; ++i) std::copy_n(s.g[i] + lane, width, t.dh0 + at_.edge(b, i, d));
      for (int k = 0; k < W; ++k) {
        CompensatedSum<C>* const sums = &sums_[std::size_t(b * at_.a(W, 0) + at_.a(k, d))];
        for (int i = 0; i < width; ++i) sums[i].sum = s.sum[k][lane + i], sums[i].lost = s.lost[k][lane + i];
      }
    });
  }

  const Layout<Cell> at_;
  const bool accumulate_;
  const int vector_bytes_;
  std::vector<CompensatedSum<C>> sums_;  // [B, kWeights, D]
  std::optional<std::array<std::int64_t, 3>> first_nonfinite_;
};

PRNN_REGISTER_SOLVER(SeqFusedBackward, "cpu");

}  // namespace
}  // namespace prnn::cpu
