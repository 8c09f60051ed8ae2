// seq_stepwise_backward.cu: the gradients of the recurrence, one launch a step from the last to the first, a thread a channel; one more launch sums da over the batch.
//   u [B, L, kInputs, D], a [kWeights, D], h0 [B, kState, D], h [B, L, kState, D], grad_h [B, L, G, D] (squares: none), grad_last [B, kState, D]
//   -> du [B, L, kInputs, D], da [kWeights, D], dh0 [B, kState, D]
// Danieli et al. 2025 (arXiv:2510.21450), eq. 2.6, solved step by step; gates are computed again, nothing but h is stored.
#include "kernels/primitives/adjoint.cuh"
#include "kernels/primitives/register.hpp"

namespace prnn::PRNN_BACKEND {

/// Step l of every channel. g travels between launches in dh0 [B, kState, D], da in sums [B, kWeights, D].
template <class Cell, class T>
PRNN_KERNEL adjoint_kernel(Layout<Cell> at, std::int64_t l, BackwardTensors<T> t, CompensatedSum<compute_t<T>>* sums, std::int64_t* nonfinite) {
  using C = compute_t<T>;
  const std::int64_t channel = block_index() * thread_count() + thread_index();
  const Place place = place_of_channel(at, channel);
  const std::int64_t b = place.b, d = place.d;
  bool bad = false;
  if (channel < at.channels()) {
    const bool first = l + 1 == at.seq_len;
    CompensatedSum<C>* const mine = sums + b * at.a(Cell::kWeights, 0);
    C g[Cell::kState];
    CompensatedSum<C> da[Cell::kWeights];
    PRNN_UNROLL for (int i = 0; i < Cell::kState; ++i) g[i] = (first ? t.grad_last : t.dh0)[at.edge(b, i, d)];
    PRNN_UNROLL for (int k = 0; k < Cell::kWeights; ++k) da[k] = first ? CompensatedSum<C>(C(0)) : mine[at.a(k, d)];
    adjoint_step(at, t, b, l, d, g, da);
    PRNN_UNROLL for (int i = 0; i < Cell::kState; ++i) t.dh0[at.edge(b, i, d)] = g[i];
    PRNN_UNROLL for (int k = 0; k < Cell::kWeights; ++k) mine[at.a(k, d)] = da[k];
    bad = !all_finite(g);
  }
  if (l == 0) report_first_nan_gradient(at, t.du, bad, place, nonfinite + block_index());
}

#ifndef __CUDACC_RTC__
template <class Cell, class T>
class SeqStepwiseBackward final : public SequentialBackwardRun<Cell, T> {
 public:
  static constexpr const char* kName = "seq_stepwise";
  static PolicySpace space() { return sequential_space(); }

  SeqStepwiseBackward(const Problem& p, Machine& machine) : SequentialBackwardRun<Cell, T>(p, machine) {}
  int launches() const override { return int(this->at_.seq_len) + 1; }
  void launch(const Tensors& tensors, Stream stream) override {
    const BackwardTensors<T> t(tensors);
    for (std::int64_t l = this->at_.seq_len - 1; l >= 0; --l) this->enqueue(&adjoint_kernel<Cell, T>, t, stream, l);
    this->enqueue_combine(t, stream);
  }
};

PRNN_REGISTER_SOLVER(SeqStepwiseBackward, kDevice);

#endif  // __CUDACC_RTC__

}  // namespace prnn::PRNN_BACKEND
