// seq_fused.cu: one thread a channel, the whole sequence in one launch: the baseline that a parallel solver has to beat.
//   u [B, L, kInputs, D], a [kWeights, D], h0 [B, kState, D] -> h [B, L, kState, D], last [B, kState, D]
// h_l = f(h_{l-1}, u_l), Danieli et al. 2025 (arXiv:2510.21450), eq. 2.1. Time-fused kernels of this kind: haste's IndRNN, FLA's HGRN.
// The step is a chain of dependent operations (about 100 ns), a memory access takes several such chains: so inputs are loaded kPrefetch
// steps ahead into registers, and the thread waits for arithmetic only. Neighbouring threads are neighbouring channels: coalesced.
#include "kernels/solvers/cuda/sequential.cuh"

namespace prnn::PRNN_BACKEND {

template <class Cell, class T>
PRNN_KERNEL PRNN_LAUNCH_BOUNDS(kMostSequentialThreads, 1) seq_fused_kernel(Layout<Cell> at, RecurrenceTensors<T> t, std::int64_t* nonfinite) {
  const std::int64_t channel = block_index() * thread_count() + thread_index(), b = channel / at.hidden, d = channel % at.hidden;
  bool bad = false;
  if (channel < at.channels()) {
    compute_t<T> a[Cell::kWeights], h[Cell::kState], ahead[kPrefetch][Cell::kInputs];
    load_weights(at, t, d, a);
    load_start(at, t, b, d, a, h);
    const T* u = t.u + at.u(b, 0, 0, d);
    const std::int64_t stride = Cell::kInputs * at.hidden;
    PRNN_UNROLL for (int j = 0; j < kPrefetch; ++j) {
      if (j < at.seq_len) load_inputs<Cell>(u + j * stride, at.hidden, ahead[j]);
    }
    for (std::int64_t base = 0; base < at.seq_len; base += kPrefetch) {
      PRNN_UNROLL for (int j = 0; j < kPrefetch; ++j) {
        const std::int64_t l = base + j;
        if (l >= at.seq_len) break;
        compute_t<T> now[Cell::kInputs], next[Cell::kState];
        PRNN_UNROLL for (int k = 0; k < Cell::kInputs; ++k) now[k] = ahead[j][k];
        if (l + kPrefetch < at.seq_len) load_inputs<Cell>(u + (l + kPrefetch) * stride, at.hidden, ahead[j]);
        guard_inputs<Cell>(now);
        Cell::step(h, a, now, next);
        PRNN_UNROLL for (int i = 0; i < Cell::kState; ++i) h[i] = next[i];
        store_step(at, t, b, l, d, h);
      }
    }
    store_last(at, t, b, d, h);
    bad = !all_finite(h);
  }
  report_first_nonfinite(at, t.h, bad, b, d, nonfinite + block_index());
}

template <class Cell, class T>
class SeqFused final : public SequentialRun<Cell, T> {
 public:
  static constexpr const char* kName = "seq_fused";
  static std::string why_not(const Problem& p) {
    const std::string fault = sequential_why_not(kName, p);
    return fault.empty() ? policy_fault(p.policy, "prefetch", [](std::int64_t n) { return n == kPrefetch; }, "is compiled for 8") : fault;
  }

  SeqFused(const Problem& p, Machine& machine) : SequentialRun<Cell, T>(p, machine) {}
  Policy policy() const override { return {{"threads", this->policy_.threads}, {"prefetch", kPrefetch}}; }
  int launches() const override { return 1; }
  void launch(const Tensors& tensors, Stream stream) override {
    prnn::PRNN_BACKEND::launch(&seq_fused_kernel<Cell, T>, this->blocks_, this->policy_.threads, 0, stream, this->at_, RecurrenceTensors<T>(tensors),
                               this->nonfinite_.template as<std::int64_t>());
  }
};

PRNN_REGISTER_SOLVER(SeqFused, kDevice);

}  // namespace prnn::PRNN_BACKEND
