// newton_unfused.cu: Newton's method over the sequence with a kernel for each part: assemble (J, r), device-wide scan, update.
//   u [B, L, kInputs, D], a [kWeights, D], h0 [B, kState, D] -> h [B, L, kState, D], last [B, kState, D]
// Danieli et al. 2025 (arXiv:2510.21450), eq. 2.1 and A.1, as newton_fused.cu, with the whole sequence as one tile.
//
// CUB scans contiguous memory (device_scan.cuh), so the maps are transposed to [B D, L] through shared memory, and all channels are one scan of B D L elements:
// an element that starts a channel carries a flag, and the operator forgets what came before it. The iterate stays in a workspace in
// compute type; the stored h is rounded once, at the end. CUB's order of operations varies from run to run: not deterministic.
//
// Adaptive: a loop on the device repeats {scan, update, assemble + test, decide} until the residuals of all channels pass (Fit in
// convergence.hpp), or kMostSolves; the host does not take part. A channel that has passed is not touched again. Fixed count: plain launches, no test.
#include <array>
#include <map>

#include "kernels/fault.hpp"
#include "kernels/primitives/channel.cuh"
#include "kernels/primitives/device_scan.cuh"
#include "kernels/primitives/policy.hpp"
#include "kernels/primitives/register.hpp"

namespace prnn::PRNN_BACKEND {

inline constexpr int kMostSolves = 256;
inline constexpr int kUnfusedTraced = 64;  // iterates whose residual and step a trace keeps
inline constexpr int kElementwiseThreads = 256;

/// The one that decides whether to go on reads and writes this; so does outcome().
struct UnfusedStatus {
  std::int64_t nonfinite;  // first position, or kNowhere
  int solves;              // linear solves so far; the current iterate's number
  int unfinished;          // number of the last iterate after which a channel has to go on, -1: none
  int converged;
};

/// Everything the kernels work on; plain pointers. They wait for memory, most of it in compute type, so storage is a type that they see when they run: a branch
/// that all threads take alike.
template <class Cell, class C>
struct Unfused {
  static constexpr int K = Cell::kState;
  Layout<Cell> at;
  StoredRecurrence<C> tensors;
  C* iterate;               // [B, L, kState, D]
  Element<C, K>* elements;  // [B D, L]
  std::int64_t* first_bad;  // [B D]: first step that is not finite; beyond the last: none
  int* failed;              // [B D]: number of the last iterate at which a step did not pass, -1: none
  int* unfinished;          // [B D]: number of the last iterate after which the channel has to go on, -1: none
  UnfusedStatus* status;
  double* trace;  // [2, kUnfusedTraced] or null
};

/// f(0, u_l) -> h [kState]. Returns whether the inputs are finite.
template <class Cell, class C>
PRNN_DEVICE bool guess(const Unfused<Cell, C>& w, std::int64_t b, std::int64_t l, std::int64_t d, C (&h)[Cell::kState]) {
  C a[Cell::kWeights], u[Cell::kInputs];
  const C zero[Cell::kState] = {};
  load_weights(w.at, w.tensors.a, d, a);
  load_inputs<Cell>(w.tensors.u, w.at.u(b, l, 0, d), w.at.hidden, u);
  guard_inputs<Cell>(u);
  Cell::step(zero, a, u, h);
  return is_finite(u[0]);
}

/// A thread a step of a channel: the guess, a clean status, and the channels' first non-finite inputs, 0 where weights or h0 are not finite.
template <class Cell, class C>
PRNN_KERNEL guess_kernel(Unfused<Cell, C> w) {
  const std::int64_t position = block_index() * thread_count() + thread_index(), d = position % w.at.hidden, row = position / w.at.hidden;
  const std::int64_t b = row / w.at.seq_len, l = row % w.at.seq_len;
  if (b >= w.at.batch) return;
  if (position == 0) *w.status = {kNowhere, 0, -1, 0};
  C h[Cell::kState];
  bool good = true;
  if (l == 0) {
    C a[Cell::kWeights];
    load_weights(w.at, w.tensors.a, d, a);
    load_start(w.at, w.tensors, b, d, a, h);
    good = all_finite(h);
  }
  if (!guess(w, b, l, d, h) || !good) atomic_min(w.first_bad + b * w.at.hidden + d, l);
  PRNN_UNROLL for (int i = 0; i < Cell::kState; ++i) w.iterate[w.at.h(b, l, i, d)] = h[i];
}

/// Maps (J, r) at the current iterate -> elements. k: the iterate's number, -1: from status. checked: test the residual.
template <class Cell, class C>
PRNN_KERNEL assemble_kernel(Unfused<Cell, C> w, int k, bool checked) {
  constexpr int K = Cell::kState;
  const TransposedTile<Cell> tile(w.at);
  auto* const slots = shared_memory<Element<C, K>>();
  auto* const fits = reinterpret_cast<Fit*>(slots + TransposedTile<Cell>::kSlots);  // [kTileRows, kTileChannels]
  const int number = k < 0 ? w.status->solves : k;
  const std::int64_t mine = tile.my_channel(), channel = tile.b * w.at.hidden + mine;
  C a[Cell::kWeights] = {};
  std::int64_t bad = 0;
  if (mine < w.at.hidden) {
    load_weights(w.at, w.tensors.a, mine, a);
    bad = w.first_bad[channel];
  }
  struct Step {
    C u[Cell::kInputs], before[K], h[K];
  };
  const auto load_step = [&](std::int64_t l, std::int64_t d) {
    Step step;
    load_inputs<Cell>(w.tensors.u, w.at.u(tile.b, l, 0, d), w.at.hidden, step.u);
    PRNN_UNROLL for (int i = 0; i < K; ++i) {
      step.before[i] = l == 0 ? PRNN_FAULT(26, w.tensors.h0[w.at.edge(tile.b, i, d)], C(0)) : w.iterate[w.at.h(tile.b, l - 1, i, d)];
      step.h[i] = w.iterate[w.at.h(tile.b, l, i, d)];
    }
    return step;
  };
  Fit fit;
  tile.for_each_channel_fastest(load_step, [&](int slot, std::int64_t l, std::int64_t, const Step& step) {
    C f[K];
    Element<C, K> element;
    step_and_jacobian<Cell>(step.before, a, step.u, f, element.map.jacobian);
    PRNN_UNROLL for (int i = 0; i < K; ++i) element.map.offset[i] = f[i] - step.h[i];
    element.starts = l == 0;
    slots[slot] = element;
    fit.also(fit_of(element.map, step.h, step.before), l < bad);
    if (w.trace && l < bad && number < kUnfusedTraced) {
      PRNN_UNROLL for (int i = 0; i < K; ++i) atomic_max_magnitude(w.trace + number, magnitude(element.map.offset[i]));
    }
  });
  fits[thread_index()] = fit;
  barrier();
  tile.for_each_step_fastest([&](int slot, std::int64_t l, std::int64_t d) { w.elements[(tile.b * w.at.hidden + d) * w.at.seq_len + l] = slots[slot]; });
  if (!checked || thread_index() >= kTileChannels || mine >= w.at.hidden) return;
  // One report a channel and block: all blocks of a channel write the same word, which takes its turns.
  for (int row = 1; row < kTileRows; ++row) {
    const Fit other = fits[row * kTileChannels + thread_index()];
    fit.also(other);
  }
  // Another block of the channel may write the current number meanwhile: the answer is the same. Before the first, none has passed.
  const bool passed = atomic_load(w.failed + channel) < number - 1;
  if (!fit.passes) atomic_store(w.failed + channel, number);
  if (fit.converged(passed)) return;
  w.unfinished[channel] = number;
  w.status->unfinished = number;
}

/// h += dh from the scanned elements. number: of the iterate that it makes, -1: from status, and only unfinished channels move.
template <class Cell, class C>
PRNN_KERNEL update_kernel(Unfused<Cell, C> w, int number) {
  constexpr int K = Cell::kState;
  const TransposedTile<Cell> tile(w.at);
  auto* const slots = shared_memory<State<C, K>>();
  const bool adaptive = number < 0;
  const int k = adaptive ? w.status->solves : number;
  tile.for_each_step_fastest([&](int slot, std::int64_t l, std::int64_t d) {
    const Element<C, K>& element = w.elements[(tile.b * w.at.hidden + d) * w.at.seq_len + l];
    PRNN_UNROLL for (int i = 0; i < K; ++i) slots[slot].x[i] = element.map.offset[i];
  });
  PRNN_FAULT(21, barrier(), void());
  tile.for_each_channel_fastest([&](int slot, std::int64_t l, std::int64_t d) {
    const std::int64_t channel = tile.b * w.at.hidden + d;
    if (adaptive && w.unfinished[channel] != k - 1) return;
    C h[K], moved[K];
    PRNN_UNROLL for (int i = 0; i < K; ++i) {
      h[i] = w.iterate[w.at.h(tile.b, l, i, d)];
      moved[i] = h[i] + slots[slot].x[i];
    }
    if (!all_finite(moved)) {
      if (adaptive) {
        guess(w, tile.b, l, d, moved);  // an overflow ahead of the exact front starts again
      } else {
        atomic_min(w.first_bad + channel, l);
      }
    }
    double step_max = 0;
    PRNN_UNROLL for (int i = 0; i < K; ++i) {
      w.iterate[w.at.h(tile.b, l, i, d)] = moved[i];
      const C step = fabs(moved[i] - h[i]);
      if (!(step <= step_max)) step_max = step;
    }
    if (w.trace && k < kUnfusedTraced && all_finite(moved)) atomic_max_magnitude(w.trace + kUnfusedTraced + k, step_max);
  });
}

#ifndef __CUDACC_RTC__  // of no cell
/// One thread: another solve, or the end.
PRNN_KERNEL decide_kernel(UnfusedStatus* status, LoopHandle loop) {
  const bool unfinished = status->unfinished == status->solves, again = unfinished && status->solves < kMostSolves;
  status->solves += again;
  status->converged = !unfinished;
  set_continue(loop, again);
}
#endif

/// The iterate, rounded once -> h, last.
template <class Cell, class C>
PRNN_KERNEL store_kernel(Unfused<Cell, C> w) {
  const std::int64_t position = block_index() * thread_count() + thread_index(), d = position % w.at.hidden, row = position / w.at.hidden;
  const std::int64_t b = row / w.at.seq_len, l = row % w.at.seq_len;
  if (b >= w.at.batch) return;
  const std::int64_t bad = w.first_bad[b * w.at.hidden + d];
  C h[Cell::kState];
  PRNN_UNROLL for (int i = 0; i < Cell::kState; ++i) h[i] = l < bad ? w.iterate[w.at.h(b, l, i, d)] : not_a_number<C>();
  store_step(w.at, w.tensors, b, l, d, h);
  if (l + 1 == w.at.seq_len) store_last(w.at, w.tensors, b, d, h);
  if (l == bad) atomic_min(&w.status->nonfinite, position);
}

#ifndef __CUDACC_RTC__
template <class Cell, class T>
class NewtonUnfused final : public Run {
  using C = compute_t<T>;
  static constexpr int K = Cell::kState;

 public:
  static constexpr const char* kName = "newton_unfused";
  static constexpr bool kIterates = true, kDeterministic = false;
  static std::int64_t workspace_bytes(const Problem& p) {
    const Sizes s(p);
    return s.iterate + s.elements + s.first_bad + s.numbers + s.scan + std::int64_t(sizeof(UnfusedStatus)) + kTraceBytes;
  }

  NewtonUnfused(const Problem& p, Machine& machine) : NewtonUnfused(p, machine, Sizes(p)) {}

  int launches() const override {
    const int around = 2;                                             // guess, store
    if (limit_ < 0) return around + 5 + DeviceScan<C, K>::kLaunches;  // as recorded: assemble and decide before the loop, then scan, update, assemble, decide in it
    return around + limit_ * (2 + DeviceScan<C, K>::kLaunches);
  }
  bool capturable() const override { return limit_ >= 0; }
  void launch(const Tensors& tensors, Stream stream) override { solve(tensors, stream, nullptr); }
  void trace(const Tensors& tensors, Stream stream) override {
    fill_async(trace_.data(), 0, kTraceBytes, stream);
    solve(tensors, stream, trace_.as<double>());
  }

  Outcome outcome() override {
    UnfusedStatus status;
    machine_.download(&status, status_.data(), sizeof status);
    Outcome outcome{.iterations = limit_ < 0 ? status.solves : limit_, .steps_a_tile = at_.seq_len, .nonfinite = place_of(at_, status.nonfinite)};
    if (limit_ < 0) outcome.converged = status.converged != 0;
    if (traced_) {
      double maxima[2][kUnfusedTraced];
      machine_.download(maxima, trace_.data(), kTraceBytes);
      const int entries = int(std::min<std::int64_t>(*outcome.iterations + 1, kUnfusedTraced));
      outcome.residual_max.assign(maxima[0], maxima[0] + entries);
      outcome.step_max.assign(maxima[1], maxima[1] + entries);
    }
    return outcome;
  }

 private:
  static constexpr std::size_t kAssembleSharedBytes = TransposedTile<Cell>::kSlots * sizeof(Element<C, K>) + kTileRows * kTileChannels * sizeof(Fit);
  static constexpr std::int64_t kTraceBytes = 2 * kUnfusedTraced * sizeof(double);

  struct Sizes {
    std::int64_t iterate, elements, first_bad, numbers, scan;  // bytes; numbers: failed, then unfinished
    explicit Sizes(const Problem& p) {
      const Layout<Cell> at = layout_of<Cell>(p);
      const std::int64_t count = at.channels() * at.seq_len;
      iterate = count * K * std::int64_t(sizeof(C));
      elements = count * std::int64_t(sizeof(Element<C, K>));
      first_bad = at.channels() * std::int64_t(sizeof(std::int64_t));
      numbers = 2 * at.channels() * std::int64_t(sizeof(int));
      scan = DeviceScan<C, K>::bytes(count);
    }
  };

  NewtonUnfused(const Problem& p, Machine& machine, const Sizes& sizes)
      : at_(layout_of<Cell>(p)),
        limit_(p.iteration_limit.value_or(-1)),
        machine_(machine),
        iterate_(machine, sizes.iterate),
        elements_(machine, sizes.elements),
        first_bad_(machine, sizes.first_bad),
        numbers_(machine, sizes.numbers),
        scan_(machine, sizes.scan),
        status_(machine, sizeof(UnfusedStatus)),
        trace_(machine, kTraceBytes) {}

  void solve(const Tensors& tensors, Stream stream, double* trace) {
    const StoredRecurrence<C> t(tensors);
    traced_ = trace != nullptr;
    const Unfused<Cell, C> w{.at = at_,
                             .tensors = t,
                             .iterate = iterate_.template as<C>(),
                             .elements = elements_.template as<Element<C, K>>(),
                             .first_bad = first_bad_.template as<std::int64_t>(),
                             .failed = numbers_.template as<int>(),
                             .unfinished = numbers_.template as<int>() + at_.channels(),
                             .status = status_.template as<UnfusedStatus>(),
                             .trace = trace};
    if (limit_ < 0) {
      // A graph holds its pointers, so each set of tensors has its own, recorded at its first launch: in the warm-up.
      const auto prologue = [this, w](Stream s, LoopHandle loop) {
        begin(w, s);
        assemble(w, s, -1);
        decide(w, s, loop);
      };
      const auto body = [this, w](Stream s, LoopHandle loop) {
        scan(w, s);
        update(w, s, -1);
        assemble(w, s, -1);
        decide(w, s, loop);
      };
      loops_.try_emplace({t.u.data, t.a.data, t.h0, t.h.data, t.last, trace}, prologue, body).first->second.launch(stream);
    } else {
      begin(w, stream);
      for (int k = 0; k < limit_; ++k) {
        assemble(w, stream, k);
        scan(w, stream);
        update(w, stream, k + 1);
      }
      if (trace) assemble(w, stream, limit_);
    }
    elementwise(&store_kernel<Cell, C>, w, stream, at_.channels() * at_.seq_len);
  }

  void elementwise(void (*kernel)(Unfused<Cell, C>), const Unfused<Cell, C>& w, Stream stream, std::int64_t count) {
    prnn::PRNN_BACKEND::launch(kernel, ceil_div(count, kElementwiseThreads), kElementwiseThreads, 0, stream, w);
  }
  void begin(const Unfused<Cell, C>& w, Stream stream) {
    fill_async(w.first_bad, 0x7f, first_bad_.bytes(), stream);    // beyond any step
    fill_async(numbers_.data(), 0xff, numbers_.bytes(), stream);  // -1
    elementwise(&guess_kernel<Cell, C>, w, stream, at_.channels() * at_.seq_len);
  }
  void assemble(const Unfused<Cell, C>& w, Stream stream, int number) {
    prnn::PRNN_BACKEND::launch(&assemble_kernel<Cell, C>, TransposedTile<Cell>::blocks(at_), kTileChannels * kTileRows, kAssembleSharedBytes, stream, w, number, limit_ < 0);
  }
  void update(const Unfused<Cell, C>& w, Stream stream, int number) {
    prnn::PRNN_BACKEND::launch(&update_kernel<Cell, C>, TransposedTile<Cell>::blocks(at_), kTileChannels * kTileRows, TransposedTile<Cell>::kSlots * sizeof(State<C, K>), stream, w,
                               number);
  }
  void scan(const Unfused<Cell, C>& w, Stream stream) { DeviceScan<C, K>::run(scan_.data(), scan_.bytes(), w.elements, at_.channels() * at_.seq_len, stream); }
  void decide(const Unfused<Cell, C>& w, Stream stream, LoopHandle loop) { prnn::PRNN_BACKEND::launch(&decide_kernel, 1, 1, 0, stream, w.status, loop); }

  const Layout<Cell> at_;
  const int limit_;  // linear solves, -1: adaptive
  Machine& machine_;
  const Buffer iterate_, elements_, first_bad_, numbers_, scan_, status_, trace_;
  std::map<std::array<const void*, 6>, ConditionalLoop> loops_;
  bool traced_ = false;
};

PRNN_REGISTER_SOLVER(NewtonUnfused, kDevice);

#endif  // __CUDACC_RTC__

}  // namespace prnn::PRNN_BACKEND
