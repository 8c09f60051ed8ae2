// seq_fused.cpp: the recurrence of eq. 2.1, each channel's whole sequence in one pass; channels go side by side into vectors and to threads.
//   u [B, L, kInputs, D], a [kWeights, D], h0 [B, kState, D] -> h [B, L, kState, D], last [B, kState, D]
// Source: Danieli et al. 2025 (arXiv:2510.21450), section 2. Arithmetic, not memory, bounds it: gates are polynomials on a CPU.
#include "kernels/solvers/cpu/lanes.hpp"

namespace prnn::cpu {
namespace {

template <class Cell, class T>
class SeqFused final : public Run {
 public:
  static constexpr const char* kName = "seq_fused";
  static constexpr bool kIterates = false, kDeterministic = true;
  static std::int64_t workspace_bytes(const Problem&) { return 0; }
  static PolicySpace space() { return {vector_bytes_parameter()}; }

  SeqFused(const Problem& p, Machine&) : at_(layout_of<Cell>(p)), vector_bytes_(chosen_vector_bytes(p)) {}
  Policy policy() const override { return {{"vector_bytes", vector_bytes_}}; }
  int launches() const override { return 1; }

  void launch(const Tensors& tensors, Stream) override {
    const RecurrenceTensors<T> t(tensors);
    const int threads = threads_for(at_.position(at_.batch, 0, 0));
    for_each_strip<Strip<Cell, T>>(at_, t, vector_bytes_, threads, at_.channels(), [&](Strip<Cell, T>& strip, std::int64_t first, std::int64_t end) {
      for (std::int64_t channel = first; channel < end;) {
        const std::int64_t b = channel / at_.hidden, d = channel - b * at_.hidden, width = std::min(at_.hidden - d, end - channel);
        strip.add({.b = b, .d = d, .first = 0, .own = 0, .end = at_.seq_len, .width = int(width)});
        channel += width;
      }
      strip.start();
      strip.walk(at_.seq_len);
      for (const Stretch& stretch : strip) {
        for (int k = 0; k < Cell::kState; ++k) std::copy_n(strip.h[k] + stretch.lane, stretch.width, t.last + at_.edge(stretch.b, k, stretch.d));
      }
    });
    first_nonfinite_ = first_nonfinite<Cell, T>(at_, t);
  }

  Outcome outcome() override { return {.nonfinite = first_nonfinite_}; }

 private:
  const Layout<Cell> at_;
  const int vector_bytes_;
  std::optional<std::array<std::int64_t, 3>> first_nonfinite_;
};

PRNN_REGISTER_SOLVER(SeqFused, "cpu");
PRNN_REGISTER_SCAN_SOLVER(SeqFused, "cpu");

}  // namespace
}  // namespace prnn::cpu
