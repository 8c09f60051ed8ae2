// seq_fused.cu: one thread a channel, the whole sequence in one launch: the baseline that a parallel solver has to beat.
//   u [B, L, kInputs, D], a [kWeights, D], h0 [B, kState, D] -> h [B, L, kState, D], last [B, kState, D]
// h_l = f(h_{l-1}, u_l), Danieli et al. 2025 (arXiv:2510.21450), eq. 2.1. Time-fused kernels of this kind: haste's IndRNN, FLA's HGRN.
// The step is a chain of dependent operations (about 100 ns), a memory access takes several such chains: so a thread computes kPrefetch
// steps from registers while the loads of the next kPrefetch are in flight. They are issued together and first touched a whole round later:
// a GPU waits for groups of loads, and at the first instruction that needs one. Neighbouring threads are neighbouring channels: coalesced.
#include "kernels/solvers/cuda/sequential.cuh"

namespace prnn::PRNN_BACKEND {

/// Inputs of kPrefetch steps, as stored.
template <class Cell, class T>
struct Round {
  T u[kPrefetch][Cell::kInputs];
};

template <class Cell, class T>
PRNN_KERNEL PRNN_LAUNCH_BOUNDS(kMostSequentialThreads, 1) seq_fused_kernel(Layout<Cell> at, RecurrenceTensors<T> t, std::int64_t* nonfinite) {
  using C = compute_t<T>;
  const std::int64_t channel = block_index() * thread_count() + thread_index(), b = channel / at.hidden, d = channel % at.hidden;
  bool bad = false;
  if (channel < at.channels()) {
    C a[Cell::kWeights], h[Cell::kState];
    load_weights(at, t, d, a);
    load_start(at, t, b, d, a, h);
    const T* const u = t.u + at.u(b, 0, 0, d);
    /// Of steps base .. base + kPrefetch - 1, those that exist.
    const auto fetch = [&](std::int64_t base) {
      Round<Cell, T> round;
      PRNN_UNROLL for (int j = 0; j < kPrefetch; ++j) {
        if (base + j >= at.seq_len) continue;
        PRNN_UNROLL for (int k = 0; k < Cell::kInputs; ++k) round.u[j][k] = load_stored(u + ((base + j) * Cell::kInputs + k) * at.hidden);
      }
      return round;
    };
    Round<Cell, T> now = fetch(0);
    for (std::int64_t base = 0; base < at.seq_len; base += kPrefetch) {
      const Round<Cell, T> ahead = fetch(base + kPrefetch);
      PRNN_UNROLL for (int j = 0; j < kPrefetch; ++j) {
        if (base + j >= at.seq_len) continue;
        C inputs[Cell::kInputs], next[Cell::kState];
        PRNN_UNROLL for (int k = 0; k < Cell::kInputs; ++k) inputs[k] = widen(now.u[j][k]);
        guard_inputs<Cell>(inputs);
        Cell::step(h, a, inputs, next);
        PRNN_UNROLL for (int i = 0; i < Cell::kState; ++i) h[i] = next[i];
        store_step(at, t, b, base + j, d, h);
      }
      now = ahead;
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
    return fault.empty() ? policy_fault(
                               p.policy, "prefetch", [](std::int64_t n) { return n == kPrefetch; }, "is compiled for 8")
                         : fault;
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
