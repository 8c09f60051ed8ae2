// seq_fused.cpp: the recurrence of eq. 2.1, each channel's whole sequence in one pass with the state in registers; channels go to threads.
//   u [B, L, kInputs, D], a [kWeights, D], h0 [B, kState, D] -> h [B, L, kState, D], last [B, kState, D]
// Neighbouring channels share cache lines, so a thread walks kLanes of them together through time.
#include <algorithm>

#include "kernels/solvers/cpu/channels.hpp"

namespace prnn::cpu {
namespace {

template <class Cell, class T>
class SeqFused final : public Run {
 public:
  static constexpr const char* kName = "seq_fused";
  static constexpr bool kIterates = false, kDeterministic = true;
  static std::int64_t workspace_bytes(const Problem&) { return 0; }
  static std::string why_not(const Problem& p) { return p.iteration_limit ? "seq_fused has no iterations to limit" : ""; }

  SeqFused(const Problem& problem, Machine&) : at_(layout_of<Cell>(problem)) {}
  int launches() const override { return 1; }

  void launch(const Tensors& tensors, Stream) override {
    const RecurrenceTensors<T> t(tensors);
    const std::int64_t blocks = (at_.hidden + kLanes - 1) / kLanes;
#pragma omp parallel for schedule(static) collapse(2) if (at_.position(at_.batch, 0, 0) > kStepsWorthThreads)
    for (std::int64_t b = 0; b < at_.batch; ++b) {
      for (std::int64_t block = 0; block < blocks; ++block) {
        const std::int64_t first = block * kLanes;
        walk(t, b, first, int(std::min<std::int64_t>(kLanes, at_.hidden - first)));
      }
    }
    first_nonfinite_ = first_nonfinite<Cell, T>(at_, t);
  }

  Outcome outcome() override { return {.nonfinite = first_nonfinite_}; }

 private:
  static constexpr int kLanes = 64 / sizeof(T);  // one cache line of every row

  void walk(const RecurrenceTensors<T>& t, std::int64_t b, std::int64_t first, int lanes) {
    compute_t<T> a[kLanes][Cell::kWeights], h[kLanes][Cell::kState];
    for (int lane = 0; lane < lanes; ++lane) load_start<Cell, T>(at_, t, b, first + lane, a[lane], h[lane]);
    for (std::int64_t l = 0; l < at_.seq_len; ++l) {
      for (int lane = 0; lane < lanes; ++lane) {
        compute_t<T> u[Cell::kInputs], h_next[Cell::kState];
        load_inputs<Cell, T>(at_, t, b, l, first + lane, u);
        Cell::step(h[lane], a[lane], u, h_next);
        for (int k = 0; k < Cell::kState; ++k) h[lane][k] = h_next[k];
        store_state<Cell, T>(at_, t, b, l, first + lane, h[lane]);
      }
    }
    for (int lane = 0; lane < lanes; ++lane) store_last<Cell, T>(at_, t, b, first + lane, h[lane]);
  }

  Layout<Cell> at_;
  std::optional<std::array<std::int64_t, 3>> first_nonfinite_;
};

PRNN_REGISTER_SOLVER(SeqFused, "cpu");

}  // namespace
}  // namespace prnn::cpu
