// seq_fused_backward.cu: the gradients of the recurrence, a thread a channel, the whole sequence in one launch from the last step to the first; a second,
// short one sums da over the batch.
//   u [B, L, kInputs, D], a [kWeights, D], h0 [B, kState, D], h [B, L, kState, D], grad_h [B, L, G, D] (squares: none), grad_last [B, kState, D]
//   -> du [B, L, kInputs, D], da [kWeights, D], dh0 [B, kState, D]
// Danieli et al. 2025 (arXiv:2510.21450), eq. 2.6, solved step by step; gates are computed again, nothing but h is stored.
#include "kernels/primitives/adjoint.cuh"
#include "kernels/primitives/register.hpp"

namespace prnn::PRNN_BACKEND {

/// What a step reads of a channel.
template <class Cell, class C>
struct BackwardStep {
  C u[Cell::kInputs], h_before[Cell::kState], grad_h[Cell::kState];
};

/// Step l of channel (b, d); nothing for l < 0. squares: no grad_h, for h_l is what step l + 1 has read.
template <class Cell, class T>
PRNN_DEVICE void load_step(const Layout<Cell>& at, const BackwardTensors<T>& t, const Place& place, std::int64_t l, BackwardStep<Cell, compute_t<T>>& step) {
  if (l < 0) return;
  const int first = Cell::kState - t.grad_components;
  load_inputs<Cell>(t.u + at.u(place.b, l, 0, place.d), at.hidden, step.u);
  PRNN_UNROLL for (int i = 0; i < Cell::kState; ++i) {
    step.h_before[i] = l == 0 ? load(t.h0 + at.edge(place.b, i, place.d)) : load(t.h + at.h(place.b, l - 1, i, place.d));
    step.grad_h[i] = i < first || t.squares ? compute_t<T>(0) : load(t.grad_h + t.grad_at(at, place.b, l, i - first, place.d));
  }
}

template <class Cell, class T>
PRNN_KERNEL PRNN_LAUNCH_BOUNDS(kMostSequentialThreads, 1)
    seq_fused_backward_kernel(Layout<Cell> at, BackwardTensors<T> t, CompensatedSum<compute_t<T>>* sums, std::int64_t* nonfinite) {
  using C = compute_t<T>;
  constexpr int kGroup = 4;  // steps whose inputs are under way while the group after them is computed
  const std::int64_t channel = block_index() * thread_count() + thread_index();
  const bool exists = channel < at.channels();
  const Place place = place_of_channel(at, exists ? channel : 0);
  bool bad = false;
  if (exists) {
    C a[Cell::kWeights], g[Cell::kState], h[Cell::kState];
    CompensatedSum<C> da[Cell::kWeights];
    load_weights(at, t.a, place.d, a);
    PRNN_UNROLL for (int i = 0; i < Cell::kState; ++i) {
      g[i] = load(t.grad_last + at.edge(place.b, i, place.d));
      h[i] = load(t.h + at.h(place.b, at.seq_len - 1, i, place.d));
    }
    PRNN_UNROLL for (int k = 0; k < Cell::kWeights; ++k) da[k] = CompensatedSum<C>(C(0));

    BackwardStep<Cell, C> ahead[kGroup];
    PRNN_UNROLL for (int j = 0; j < kGroup; ++j) load_step(at, t, place, at.seq_len - 1 - j, ahead[j]);
    for (std::int64_t last = at.seq_len - 1; last >= 0; last -= kGroup) {
      BackwardStep<Cell, C> now[kGroup];
      PRNN_UNROLL for (int j = 0; j < kGroup; ++j) now[j] = ahead[j];
      PRNN_UNROLL for (int j = 0; j < kGroup; ++j) load_step(at, t, place, last - kGroup - j, ahead[j]);
      PRNN_UNROLL for (int j = 0; j < kGroup; ++j) {
        const std::int64_t l = last - j;
        if (l < 0) continue;
        C du[Cell::kInputs];
        PRNN_UNROLL for (int i = 0; i < Cell::kState; ++i) {
          g[i] = g[i] + t.grad_factor() * (t.squares ? h[i] : now[j].grad_h[i]);
          h[i] = now[j].h_before[i];
        }
        adjoint_step<Cell>(now[j].h_before, a, now[j].u, g, da, du);
        PRNN_UNROLL for (int k = 0; k < Cell::kInputs; ++k) store_streaming(t.du + at.u(place.b, l, k, place.d), du[k]);
      }
    }
    PRNN_UNROLL for (int i = 0; i < Cell::kState; ++i) t.dh0[at.edge(place.b, i, place.d)] = g[i];
    PRNN_UNROLL for (int k = 0; k < Cell::kWeights; ++k) sums[place.b * at.a(Cell::kWeights, 0) + at.a(k, place.d)] = da[k];
    bad = !all_finite(g);
  }
  report_first_nan_gradient(at, t.du, bad, place, nonfinite + block_index());
}

#ifndef __CUDACC_RTC__
template <class Cell, class T>
class SeqFusedBackward final : public SequentialBackwardRun<Cell, T> {
 public:
  static constexpr const char* kName = "seq_fused";
  static PolicySpace space() { return sequential_space(); }

  SeqFusedBackward(const Problem& p, Machine& machine) : SequentialBackwardRun<Cell, T>(p, machine) {}
  int launches() const override { return 2; }
  void launch(const Tensors& tensors, Stream stream) override {
    const BackwardTensors<T> t(tensors);
    this->enqueue(&seq_fused_backward_kernel<Cell, T>, t, stream);
    this->enqueue_combine(t, stream);
  }
};

PRNN_REGISTER_SOLVER(SeqFusedBackward, kDevice);

#endif  // __CUDACC_RTC__

}  // namespace prnn::PRNN_BACKEND
