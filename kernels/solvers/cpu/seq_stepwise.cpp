// seq_stepwise.cpp: the recurrence of eq. 2.1, one pass over all channels a step: "naive sequential" on a CPU.
//   u [B, L, kInputs, D], a [kWeights, D], h0 [B, kState, D] -> h [B, L, kState, D], last [B, kState, D]
// Source: Danieli et al. 2025 (arXiv:2510.21450), section 2; every step reads the state that the pass before wrote.
#include "kernels/solvers/cpu/channels.hpp"

namespace prnn::cpu {
namespace {

template <class Cell, class T>
class SeqStepwise final : public Run {
 public:
  static constexpr const char* kName = "seq_stepwise";
  static constexpr bool kIterates = false, kDeterministic = true;
  static std::int64_t workspace_bytes(const Problem&) { return 0; }

  SeqStepwise(const Problem& problem, Machine&) : at_(layout_of<Cell>(problem)) {}
  int launches() const override { return int(at_.seq_len); }

  void launch(const Tensors& tensors, Stream) override {
    const RecurrenceTensors<T> t(tensors);
    first_nonfinite_.reset();
    for (std::int64_t l = 0; l < at_.seq_len; ++l) {
#pragma omp parallel for schedule(static) collapse(2) if (at_.channels() > kStepsWorthThreads)
      for (std::int64_t b = 0; b < at_.batch; ++b) {
        for (std::int64_t d = 0; d < at_.hidden; ++d) {
          compute_t<T> a[Cell::kWeights], u[Cell::kInputs], h[Cell::kState], h_next[Cell::kState];
          load_start<Cell, T>(at_, t, b, d, a, h);
          if (l > 0) {
            for (int k = 0; k < Cell::kState; ++k) h[k] = t.last[at_.edge(b, k, d)];
          }
          load_inputs<Cell, T>(at_, t, b, l, d, u);
          Cell::step(h, a, u, h_next);
          store_state<Cell, T>(at_, t, b, l, d, h_next);
          store_last<Cell, T>(at_, t, b, d, h_next);  // `last` carries the state from pass to pass, in compute type
        }
      }
    }
    first_nonfinite_ = first_nonfinite<Cell, T>(at_, t);
  }

  Outcome outcome() override { return {.nonfinite = first_nonfinite_}; }

 private:
  Layout<Cell> at_;
  std::optional<std::array<std::int64_t, 3>> first_nonfinite_;
};

PRNN_REGISTER_SOLVER(SeqStepwise, "cpu");

}  // namespace
}  // namespace prnn::cpu
