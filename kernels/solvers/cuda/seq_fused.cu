// seq_fused.cu: one thread a channel, the whole sequence in one launch: the baseline that a parallel solver has to beat.
//   u [B, L, kInputs, D], a [kWeights, D], h0 [B, kState, D] -> h [B, L, kState, D], last [B, kState, D]
// h_l = f(h_{l-1}, u_l), Danieli et al. 2025 (arXiv:2510.21450), eq. 2.1. Of a scan (op reduction) only tiles, or words a thread: it is a yardstick. Time-fused kernels of this kind: haste's IndRNN, FLA's HGRN.
#include "kernels/cells/approximated.hpp"
#include "kernels/fault.hpp"
#include "kernels/primitives/stream.cuh"
#include "kernels/solvers/cuda/sequential.cuh"

namespace prnn::PRNN_BACKEND {

template <class Cell, class T, class Stream>
PRNN_KERNEL PRNN_LAUNCH_BOUNDS(kMostSequentialThreads, 1)
    seq_fused_kernel(Layout<Cell> at, RecurrenceTensors<T> t, PRNN_GRID_CONSTANT const typename Stream::Source u, std::int64_t* nonfinite) {
  using C = compute_t<T>;
  constexpr int V = Stream::kChannels;
  if (thread_index() == 0) nonfinite[block_index()] = kNowhere;
  barrier();
  const std::int64_t thread = block_index() * thread_count() + thread_index(), warp_channel = thread / kWarp * kWarp * V;
  const bool exists = Stream::kWholeBlocks || thread * V < at.channels();
  const Place place = place_of_channel(at, exists ? thread * V : at.channels() - V);  // a thread beyond the last channel repeats it, and stores nothing
  Lane<Cell, T, V> lane;
  load_lane(at, t, place, true, lane);
  const Stream inputs = [&] {
    unsigned char* const ring = shared_memory<unsigned char>();
    if constexpr (Stream::kWholeBlocks) {
      return Stream(ring, u, place, 0, at.seq_len);
    } else {
      return Stream(ring, at, u, warp_channel, place, kWarp, 0, at.seq_len);
    }
  }();
  guard_lane(lane);
  T* h = t.h + at.h(place.b, 0, 0, place.d);
  walk<true, Cell, T>(
      inputs, ceil_div(at.seq_len, Stream::kGroup), 0, 0, at.seq_len,
      [&](int v, const C(&u)[Cell::kInputs]) {
        C next[Cell::kState];
        Cell::step(lane.h[v], lane.a[v], u, next);
        PRNN_UNROLL for (int i = 0; i < Cell::kState; ++i) lane.h[v][i] = PRNN_FAULT(24, next[i], widen(to_storage<T>(next[i])));
      },
      [] {},
      [&](bool) {
        if (exists) store_lane(h, at.hidden, lane);
        h += Cell::kState * at.hidden;
      });
  if (!exists) return;
  PRNN_UNROLL for (int v = 0; v < V; ++v) {
    store_last(at, t, place.b, place.d + v, lane.h[v]);
    if (!all_finite(lane.h[v])) atomic_min(&nonfinite[block_index()], first_nonfinite(at, t.h, Place{place.b, place.d + PRNN_FAULT(55, v, 0)}, 0, at.seq_len));
  }
}

template <class Cell, class T>
class SeqFused final : public SequentialRun<Cell, T> {
 public:
  static constexpr const char* kName = "seq_fused";
  static constexpr bool kApproximates = true;
  static std::string why_not(const Problem& p) {
    const std::string fault = sequential_why_not(kName, p);
    return fault.empty() ? fused_why_not(p) : fault;
  }

  SeqFused(const Problem& p, Machine& machine)
      : SequentialRun<Cell, T>(p, machine, fused_policy(p).threads, is_scan<Cell> ? 1 : stream_shape<T>(p.hidden, kWarp).channels_a_thread),
        tiles_(fused_policy(p).tiles && is_hopper(machine)),
        approximate_(p.gates == "approx") {}
  Policy policy() const override { return {{"threads", this->threads_}, {"tiles", tiles_}, {"prefetch", tiles_ ? kTilePrefetch : kMostPrefetch<T>}}; }
  int launches() const override { return 1; }
  void launch(const Tensors& tensors, Stream stream) override {
    const RecurrenceTensors<T> t(tensors);
    with_gates<Cell, T>(approximate_, [&]<class Gated>() {
      const Layout<Gated> at(this->at_);
      const auto launch_with = [&]<class Inputs>(const typename Inputs::Source& u) {
        prnn::PRNN_BACKEND::launch(&seq_fused_kernel<Gated, T, Inputs>, this->blocks_, this->threads_, Inputs::bytes(this->threads_), stream, at, t, u,
                                   this->nonfinite_.template as<std::int64_t>());
      };
      if constexpr (std::is_same_v<T, float>) {
        if (tiles_) return launch_with.template operator()<TileStream<Gated>>(TileStream<Gated>::source(at, t.u, this->threads_));
      }
      if constexpr (is_scan<Cell>) launch_with.template operator()<InputStream<Gated, T, 1, false>>(t.u);
      else with_shape<T>(stream_shape<T>(at.hidden, kWarp), [&]<int V, bool kChunks>() { launch_with.template operator()<InputStream<Gated, T, V, kChunks>>(t.u); });
    });
  }

 private:
  const bool tiles_;
  const bool approximate_;
};

PRNN_REGISTER_SOLVER(SeqFused, kDevice);
PRNN_REGISTER_SCAN_SOLVER(SeqFused, kDevice);

}  // namespace prnn::PRNN_BACKEND
