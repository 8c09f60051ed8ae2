// seq_fused.cu: one thread a channel, the whole sequence in one launch: the baseline that a parallel solver has to beat.
//   u [B, L, kInputs, D], a [kWeights, D], h0 [B, kState, D] -> h [B, L, kState, D], last [B, kState, D]
// h_l = f(h_{l-1}, u_l), Danieli et al. 2025 (arXiv:2510.21450), eq. 2.1. Of a scan (op reduction) only tiles, or words a thread: it is a yardstick. Time-fused kernels of this kind: haste's IndRNN, FLA's HGRN.
#include <functional>

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

#ifndef __CUDACC_RTC__
template <class Cell, class T>
class SeqFused final : public SequentialRun<Cell, T> {
 public:
  static constexpr const char* kName = "seq_fused";
  static constexpr bool kApproximates = true;
  static PolicySpace space() {
    PolicySpace all = sequential_space();
    all.insert(all.end(), {{.key = "tiles", .least = 0, .most = std::is_same_v<T, float>}, prefetch_parameter()});
    return all;
  }
  static std::string why_not(const Problem& p) {
    const Plan plan(p);
    if (plan.tiles && !tiles_fit(p, plan.threads)) return "policy tiles = 1: f32 alone, hidden a multiple of threads = " + std::to_string(plan.threads);
    std::int64_t bytes = 0;
    with_variant(plan, [&]<class Gated, class Inputs>(const auto&) { bytes = Inputs::bytes(plan.threads, plan.prefetch); });
    return shared_memory_fault(bytes);
  }
  static std::vector<KernelSource> kernels(const Problem& p) {
    std::vector<KernelSource> all;
    with_variant(Plan(p), [&]<class Gated, class Inputs>(const auto& variant) { all.push_back(variant.source); });
    return all;
  }

  SeqFused(const Problem& p, Machine& machine) : SeqFused(p, machine, Plan(p, is_hopper(machine))) {}
  Policy policy() const override { return {{"threads", this->threads_}, {"tiles", plan_.tiles}, {"prefetch", plan_.prefetch}}; }
  int launches() const override { return 1; }
  void launch(const Tensors& tensors, Stream stream) override { enqueue_(RecurrenceTensors<T>(tensors), stream); }

 private:
  /// A problem's policy, and what follows from it.
  struct Plan {
    explicit Plan(const Problem& p, bool has_tiles = true)
        : threads(fused_policy(p).threads),
          tiles(fused_policy(p).tiles && has_tiles),
          prefetch(fused_prefetch(p, {threads, tiles})),
          approximate(p.gates == "approx"),
          shape(is_scan<Cell> ? StreamShape{1, false} : stream_shape<T>(p.hidden, kWarp)) {}

    int threads, tiles, prefetch;
    bool approximate;
    StreamShape shape;
  };

  SeqFused(const Problem& p, Machine& machine, const Plan& plan) : SequentialRun<Cell, T>(p, machine, plan.threads, plan.shape.channels_a_thread), plan_(plan) {
    with_variant(plan_, [&]<class Gated, class Inputs>(const auto& variant) {
      enqueue_ = [this, kernel = ready(variant, machine)](const RecurrenceTensors<T>& t, Stream stream) {
        const Layout<Gated> at(this->at_);
        const auto source = [&] {
          if constexpr (Inputs::kWholeBlocks) return Inputs::source(at, t.u, this->threads_);
          else return t.u;
        }();
        prnn::PRNN_BACKEND::launch(kernel, this->blocks_, this->threads_, Inputs::bytes(this->threads_, plan_.prefetch), stream, at, t, source,
                                   this->nonfinite_.template as<std::int64_t>());
      };
    });
  }

  /// f.template operator()<Gated, Inputs>(variant): the cell with its gates, how it reads inputs (but for the steps ahead), and the kernel.
  template <class F>
  static void with_variant(const Plan& plan, F&& f) {
    const auto of = []<class Gated>(auto* ahead, const std::string& inputs) {
      return Variant(ahead, "kernels/solvers/cuda/seq_fused.cu", kernel_expression<Gated, T>("seq_fused_kernel", inputs));
    };
    with_gates<Cell, T>(plan.approximate, [&]<class Gated>() {
      if constexpr (std::is_same_v<T, float>) {
        if (plan.tiles) {
          const auto make = []<int kPrefetch>() { return &seq_fused_kernel<Gated, T, TileStream<Gated, kPrefetch>>; };
          return f.template operator()<Gated, TileStream<Gated>>(
              of.template operator()<Gated>(Ahead<kTilePrefetch>::pick(plan.prefetch, make), kernel_expression<Gated>("TileStream", plan.prefetch)));
        }
      }
      with_shape<T, !is_scan<Cell>>(plan.shape, [&]<int V, bool kChunks>() {
        const auto make = []<int kPrefetch>() { return &seq_fused_kernel<Gated, T, InputStream<Gated, T, V, kChunks, kPrefetch>>; };
        f.template operator()<Gated, InputStream<Gated, T, V, kChunks>>(
            of.template operator()<Gated>(Ahead<kMostPrefetch<T>>::pick(plan.prefetch, make), kernel_expression<Gated, T>("InputStream", V, kChunks, plan.prefetch)));
      });
    });
  }

  const Plan plan_;
  std::function<void(const RecurrenceTensors<T>&, Stream)> enqueue_;
};

PRNN_REGISTER_SOLVER(SeqFused, kDevice);
PRNN_REGISTER_SCAN_SOLVER(SeqFused, kDevice);

#endif  // __CUDACC_RTC__

}  // namespace prnn::PRNN_BACKEND
