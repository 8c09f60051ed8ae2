// seq_fused_backward.cpp: the gradients of the recurrence, each channel's whole sequence in one pass from its last step; channels go side by side into vectors and to threads.
//   u [B, L, kInputs, D], a [kWeights, D], h0 [B, kState, D], h [B, L, kState, D], grad_h [B, L, G, D] (squares: none), grad_last [B, kState, D]
//   -> du [B, L, kInputs, D], da [kWeights, D], dh0 [B, kState, D]
// Source: Danieli et al. 2025 (arXiv:2510.21450), eq. 2.6, solved step by step; gates are computed again, nothing but h is stored.
#include "kernels/solvers/cpu/adjoint_strip.hpp"

namespace prnn::cpu {
namespace {

template <class Cell, class T>
class SeqFusedBackward final : public Run {
  using C = compute_t<T>;
  static constexpr int W = Cell::kWeights;

 public:
  static constexpr const char* kName = "seq_fused";
  static constexpr const char* kPass = "backward";
  static constexpr bool kIterates = false, kDeterministic = true;
  static std::int64_t workspace_bytes(const Problem& p) { return p.batch * W * p.hidden * std::int64_t(sizeof(CompensatedSum<C>)); }
  static PolicySpace space() { return {vector_bytes_parameter()}; }

  SeqFusedBackward(const Problem& p, Machine&)
      : at_(layout_of<Cell>(p)), accumulate_(p.accumulate_da), vector_bytes_(chosen_vector_bytes(p)), sums_(std::size_t(at_.batch * at_.a(W, 0))) {}
  Policy policy() const override { return {{"vector_bytes", vector_bytes_}}; }
  int launches() const override { return 1; }

  void launch(const Tensors& tensors, Stream) override {
    const BackwardTensors<T> t(tensors);
    const int threads = threads_for(at_.position(at_.batch, 0, 0));
    for_each_strip<AdjointStrip<Cell, T>>(at_, t, vector_bytes_, threads, at_.channels(), [&](AdjointStrip<Cell, T>& strip, std::int64_t first, std::int64_t end) {
      const std::int64_t last = at_.seq_len - 1;
      for (std::int64_t channel = first; channel < end;) {
        const std::int64_t b = channel / at_.hidden, d = channel - b * at_.hidden, width = std::min(at_.hidden - d, end - channel);
        strip.add({.b = b, .d = d, .first = last, .own = last, .low = 0, .width = int(width)});
        channel += width;
      }
      strip.walk([](const StretchBack&) {}, [&](const StretchBack& stretch) { strip.store_sums(stretch, &sums_[std::size_t(stretch.b * at_.a(W, 0))]); });
    });
    combine<Cell, T>(at_, sums_, accumulate_, t);
    first_nonfinite_ = first_nonfinite<Cell, T>(at_, t);
  }

  Outcome outcome() override { return {.nonfinite = first_nonfinite_}; }

 private:
  const Layout<Cell> at_;
  const bool accumulate_;
  const int vector_bytes_;
  std::vector<CompensatedSum<C>> sums_;  // [B, kWeights, D]
  std::optional<std::array<std::int64_t, 3>> first_nonfinite_;
};

PRNN_REGISTER_SOLVER(SeqFusedBackward, "cpu");

}  // namespace
}  // namespace prnn::cpu
