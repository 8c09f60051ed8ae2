// seq_stepwise.cu: one launch a step, a thread a channel: the naive sequential application without a framework around it.
//   u [B, L, kInputs, D], a [kWeights, D], h0 [B, kState, D] -> h [B, L, kState, D], last [B, kState, D]
// h_l = f(h_{l-1}, u_l), Danieli et al. 2025 (arXiv:2510.21450), eq. 2.1. Its time is L launches, whatever the GPU, so storage is a type that a kernel sees
// when it runs.
#include "kernels/primitives/stored.cuh"
#include "kernels/solvers/cuda/sequential.cuh"

namespace prnn::PRNN_BACKEND {

/// Step l of every channel, a thread each. The state travels between launches in `last` [B, kState, D], in compute type.
template <class Cell, class C>
PRNN_KERNEL step_kernel(Layout<Cell> at, std::int64_t l, StoredRecurrence<C> t, std::int64_t* nonfinite) {
  const std::int64_t channel = block_index() * thread_count() + thread_index();
  const Place place = place_of_channel(at, channel);
  const std::int64_t b = place.b, d = place.d;
  bool bad = false;
  if (channel < at.channels()) {
    C a[Cell::kWeights], u[Cell::kInputs], h[Cell::kState], next[Cell::kState];
    load_weights(at, t.a, d, a);
    if (l == 0) {
      load_start(at, t, b, d, a, h);
    } else {
      PRNN_UNROLL for (int i = 0; i < Cell::kState; ++i) h[i] = t.last[at.edge(b, i, d)];
    }
    load_inputs<Cell>(t.u, at.u(b, l, 0, d), at.hidden, u);
    guard_inputs<Cell>(u);
    Cell::step(h, a, u, next);
    store_step(at, t, b, l, d, next);
    store_last(at, t, b, d, next);
    bad = !all_finite(next);
  }
  if (l + 1 == at.seq_len) report_first_nonfinite(at, t.h, bad, place, nonfinite + block_index());
}

#ifndef __CUDACC_RTC__
template <class Cell, class T>
class SeqStepwise final : public SequentialRun<Cell, T> {
 public:
  static constexpr const char* kName = "seq_stepwise";
  static PolicySpace space() { return sequential_space(); }

  SeqStepwise(const Problem& p, Machine& machine) : SequentialRun<Cell, T>(p, machine) {}
  int launches() const override { return int(this->at_.seq_len); }
  void launch(const Tensors& tensors, Stream stream) override {
    const StoredRecurrence<compute_t<T>> t(tensors);
    for (std::int64_t l = 0; l < this->at_.seq_len; ++l)
      prnn::PRNN_BACKEND::launch(&step_kernel<Cell, compute_t<T>>, this->blocks_, this->threads_, 0, stream, this->at_, l, t, this->nonfinite_.template as<std::int64_t>());
  }
};

PRNN_REGISTER_SOLVER(SeqStepwise, kDevice);

#endif  // __CUDACC_RTC__

}  // namespace prnn::PRNN_BACKEND
