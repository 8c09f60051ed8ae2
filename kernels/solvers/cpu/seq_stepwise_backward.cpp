// seq_stepwise_backward.cpp: the gradients of the recurrence, one pass over all channels a step, from the last to the first.
//   u [B, L, kInputs, D], a [kWeights, D], h0 [B, kState, D], h [B, L, kState, D], grad_h [B, L, G, D] (squares: none), grad_last [B, kState, D]
//   -> du [B, L, kInputs, D], da [kWeights, D], dh0 [B, kState, D]
// Source: Danieli et al. 2025 (arXiv:2510.21450), eq. 2.6, solved step by step; gates are computed again, nothing but h is stored.
#include "kernels/solvers/cpu/backward.hpp"

namespace prnn::cpu {
namespace {

template <class Cell, class T>
class SeqStepwiseBackward final : public Run {
  using C = compute_t<T>;

 public:
  static constexpr const char* kName = "seq_stepwise";
  static constexpr const char* kPass = "backward";
  static constexpr bool kIterates = false, kDeterministic = true;
  static std::int64_t workspace_bytes(const Problem& p) { return p.batch * Cell::kWeights * p.hidden * std::int64_t(sizeof(CompensatedSum<C>)); }

  SeqStepwiseBackward(const Problem& p, Machine&) : at_(layout_of<Cell>(p)), accumulate_(p.accumulate_da), sums_(std::size_t(at_.batch * at_.a(Cell::kWeights, 0))) {}
  int launches() const override { return int(at_.seq_len) + 1; }

  void launch(const Tensors& tensors, Stream) override {
    const BackwardTensors<T> t(tensors);
    std::fill(sums_.begin(), sums_.end(), CompensatedSum<C>(C(0)));
    for (std::int64_t l = at_.seq_len - 1; l >= 0; --l) {
#pragma omp parallel for schedule(static) collapse(2) if (at_.channels() > kStepsWorthThreads)
      for (std::int64_t b = 0; b < at_.batch; ++b) {
        for (std::int64_t d = 0; d < at_.hidden; ++d) {
          const C* const carried = l + 1 == at_.seq_len ? t.grad_last : t.dh0;  // dh0 carries g from pass to pass, in compute type
          CompensatedSum<C>* const sums = &sums_[std::size_t(b * at_.a(Cell::kWeights, 0))];
          C g[Cell::kState];
          CompensatedSum<C> da[Cell::kWeights];
          for (int i = 0; i < Cell::kState; ++i) g[i] = carried[at_.edge(b, i, d)];
          for (int k = 0; k < Cell::kWeights; ++k) da[k] = sums[at_.a(k, d)];
          adjoint_step(at_, t, b, l, d, g, da);
          for (int k = 0; k < Cell::kWeights; ++k) sums[at_.a(k, d)] = da[k];
          for (int i = 0; i < Cell::kState; ++i) t.dh0[at_.edge(b, i, d)] = g[i];
        }
      }
    }
    combine<Cell, T>(at_, sums_, accumulate_, t);
    first_nonfinite_ = first_nonfinite<Cell, T>(at_, t);
  }

  Outcome outcome() override { return {.nonfinite = first_nonfinite_}; }

 private:
  const Layout<Cell> at_;
  const bool accumulate_;
  std::vector<CompensatedSum<C>> sums_;  // [B, kWeights, D]
  std::optional<std::array<std::int64_t, 3>> first_nonfinite_;
};

PRNN_REGISTER_SOLVER(SeqStepwiseBackward, "cpu");

}  // namespace
}  // namespace prnn::cpu
