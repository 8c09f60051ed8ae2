// reduction.cpp: the gradients of the recurrence, segments of a channel at once; with few channels it is the segments that fill vectors and threads. Two solvers:
// `reduction`, a scan over the segments' maps, and `shooting`, which guesses that a segment has forgotten where it started, and scans only where it has not.
//   u [B, L, kInputs, D], a [kWeights, D], h0 [B, kState, D], h [B, L, kState, D], grad_h [B, L, G, D] (squares: none), grad_last [B, kState, D]
//   -> du [B, L, kInputs, D], da [kWeights, D], dh0 [B, kState, D]
// Danieli et al. 2025 (arXiv:2510.21450), eq. 2.6: g_{l-1} = J_l^T (g_l + grad_h_l) is linear in g. The algorithms and the rule of cuda/reduction.cu.
//
// Segments are numbered from the end of the sequence. Segment r starts from adjoint 0, `overlap` steps before its own (reduction: none); s_r is its adjoint there, e_r its last.
// A cell that forgets makes s_r = e_{r-1} up to rounding, which shooting tests every boundary for (continues()). Where one fails, and in reduction everywhere,
//     x_r = e_{r-1} + P_{r-1} (x_{r-1} - s_{r-1})    P the product of the J^T, a run from each unit vector without the loss
// are the true starts, and one more run from them is the last. P has exponents of its own; where e leaves the range of numbers although x does not, the segment is walked.
#include <numeric>
#include <vector>

#include "kernels/fault.hpp"
#include "kernels/primitives/affine.hpp"
#include "kernels/primitives/segments.hpp"
#include "kernels/solvers/cpu/adjoint_strip.hpp"

namespace prnn::cpu {
namespace {

/// Both; shoots: shooting.
template <class Cell, class T>
class ReductionRun : public Run {
  using C = compute_t<T>;
  static constexpr int K = Cell::kState, W = Cell::kWeights;

 public:
  static constexpr const char* kPass = "backward";
  static constexpr bool kIterates = false, kDeterministic = true;

  ReductionRun(const Problem& p, bool shoots)
      : at_(layout_of<Cell>(p)),
        shoots_(shoots),
        plan_(p, shoots),
        accumulate_(p.accumulate_da),
        segments_(std::size_t(at_.channels() * plan_.cut.count)),
        sums_(std::size_t(at_.batch * plan_.cut.count * at_.a(W, 0))) {
    jobs_.reserve(segments_.size() * K);
  }
  Policy policy() const override {
    Policy all{{"segments", plan_.segments}, {"vector_bytes", plan_.vector_bytes}};
    if (shoots_) all["overlap"] = plan_.overlap;
    return all;
  }
  int launches() const override { return 1; }

  void launch(const Tensors& tensors, Stream) override {
    const BackwardTensors<T> t(tensors);
    jobs_.resize(segments_.size());
    std::iota(jobs_.begin(), jobs_.end(), std::int64_t(0));
    run(t, false);
    std::int64_t failed = 0;
    if (test_boundaries()) {
      list_wanted(1, K);
      run(t, true);
      failed = find_starts(t);
      list_wanted(0, 0);
      run(t, true);
    }
    combine<Cell, T>(at_, sums_, accumulate_, t);
    outcome_ = {.nonfinite = first_nonfinite<Cell, T>(at_, t)};
    if (!shoots_) return;
    outcome_.converged = true;
    outcome_.rounds = failed > 0;
    outcome_.boundaries = at_.channels() * (plan_.cut.count - 1);
    outcome_.boundaries_failed = failed;
  }
  Outcome outcome() override { return outcome_; }

 protected:
  static std::int64_t bytes_for(const Problem& p, bool shoots) {
    return p.batch * p.hidden * Plan(p, shoots).cut.count * std::int64_t(sizeof(Segment) + W * sizeof(CompensatedSum<C>) + K * sizeof(std::int64_t));
  }

 private:
  /// A problem's policy, and what follows from it.
  struct Plan {
    Plan(const Problem& p, bool shoots)
        : vector_bytes(chosen_vector_bytes(p)),
          threads(threads_for(p.batch * p.hidden * p.seq_len)),
          overlap(shoots ? chosen(p.policy, "overlap", shooting_overlap(p.batch * p.hidden, p.seq_len, size_of(p.storage))) : 0),
          segments(chosen(p.policy, "segments", shipped_segments(p, shoots ? 2 : 2 * (K + 2)))),
          cut(Segments::cut(p.seq_len, segments, overlap)) {}

    /// One vector of bytes (lanes.hpp) a processor of the machine, however many threads share them: the cut, and with it every bit, is the same for any number.
    /// Segments no shorter than 8 steps, and one where there would be fewer than `fewest`: reduction runs each kState + 2 times.
    int shipped_segments(const Problem& p, int fewest) const {
      const std::int64_t channels = p.batch * p.hidden, processors = channels * p.seq_len > kStepsWorthThreads ? omp_get_num_procs() : 1;
      const std::int64_t most = std::min(processors * vector_bytes / channels, (p.seq_len - overlap) / 8);
      return most < fewest ? 1 : int(most);
    }

    int vector_bytes, threads, overlap, segments;
    Segments cut;
  };

  struct Segment {
    C start[K], end[K];  // s_r, or x_r; e_r
    C product[K][K];     // P_r, where it was needed, its column k x 2^exponent[k]
    int exponent[K];
    bool wanted;  // first its product, then that it runs again, from x_r
  };
  /// Lanes are (b, r, d), d fastest: [B, segments, D].
  std::int64_t lane_of(std::int64_t channel, std::int64_t r) const {
    const std::int64_t b = channel / at_.hidden;
    return (b * plan_.cut.count + r) * at_.hidden + channel - b * at_.hidden;
  }
  Segment& of(std::int64_t channel, std::int64_t r) { return segments_[std::size_t(lane_of(channel, r))]; }
  /// The step before which a segment's own begin, and its last.
  std::int64_t own(std::int64_t r) const { return at_.seq_len - 1 - plan_.cut.own(r); }
  std::int64_t low(std::int64_t r) const { return at_.seq_len - plan_.cut.end(r); }

  /// jobs_: lane, or lane + (1 + k) x lanes: column k of P. only_own: their own steps, from the starts that segments_ have.
  void run(const BackwardTensors<T>& t, bool only_own) {
    using Strip = AdjointStrip<Cell, T>;
    const std::int64_t lanes = std::int64_t(segments_.size()), end_of_jobs = std::int64_t(jobs_.size());
    for_each_strip<Strip>(at_, t, plan_.vector_bytes, plan_.threads, end_of_jobs, [&](Strip& strip, std::int64_t first, std::int64_t end) {
      for (std::int64_t i = first; i < end;) {
        const std::int64_t job = jobs_[std::size_t(i)], lane = job % lanes, row = lane / at_.hidden, b = row / plan_.cut.count, r = row - b * plan_.cut.count;
        std::int64_t width = 1;
        while (i + width < end && jobs_[std::size_t(i + width)] == job + width && (lane + width) % at_.hidden != 0) ++width;
        const bool stores = shoots_ || only_own || r == 0;
        const int at = strip.add({.b = b,
                                  .d = lane - row * at_.hidden,
                                  .first = only_own ? own(r) : at_.seq_len - 1 - plan_.cut.first(r),
                                  .own = own(r),
                                  .low = low(r),
                                  .width = int(width),
                                  .unit = int(job / lanes) - 1,
                                  .stores = stores && job < lanes,
                                  .index = lane});
        for (int n = 0; n < width && only_own && job < lanes; ++n) {
          for (int k = 0; k < K; ++k) strip.g[k][at + n] = segments_[std::size_t(lane + n)].start[k];
        }
        i += width;
      }
      const auto each = [&](const StretchBack& stretch, const auto& keep) {
        for (int n = 0; n < stretch.width; ++n) keep(segments_[std::size_t(stretch.index + n)], stretch.lane + n);
      };
      const auto begins = [&](const StretchBack& stretch) {
        if (stretch.unit >= 0) return;
        each(stretch, [&](Segment& segment, int at) {
          for (int k = 0; k < K; ++k) segment.start[k] = strip.g[k][at];
        });
      };
      const auto ends = [&](const StretchBack& stretch) {
        each(stretch, [&](Segment& segment, int at) {
          for (int k = 0; k < K; ++k) (stretch.unit < 0 ? segment.end[k] : segment.product[k][stretch.unit]) = strip.g[k][at];
          if (stretch.unit >= 0) segment.exponent[stretch.unit] = strip.exponent(at);
        });
        if (stretch.unit < 0) strip.store_sums(stretch, &sums_[std::size_t(stretch.index / at_.hidden * at_.a(W, 0))]);
      };
      strip.walk(begins, ends);
    });
  }

  /// Wants the products that find_starts() may need: of all segments from a channel's first boundary that fails on. Whether one fails at all.
  bool test_boundaries() {
    bool any = false;
    for (std::int64_t channel = 0; channel < at_.channels(); ++channel) {
      std::int64_t first = 1;
      while (shoots_ && first < plan_.cut.count && continues(of(channel, first).start, of(channel, first - 1).end)) ++first;
      any = any || first < plan_.cut.count;
      for (std::int64_t r = 0; r < plan_.cut.count; ++r) of(channel, r).wanted = r >= first && r + 1 < plan_.cut.count;
    }
    return any;
  }

  /// jobs_, of the segments that are wanted: 0, 0: their runs; 1, K: their products.
  void list_wanted(int first, int last) {
    const std::int64_t lanes = std::int64_t(segments_.size());
    jobs_.clear();
    for (int kind = first; kind <= last; ++kind) {
      for (std::int64_t lane = 0; lane < lanes; ++lane) {
        if (segments_[std::size_t(lane)].wanted) jobs_.push_back(lane + kind * lanes);
      }
    }
  }

  /// Every channel's true starts, as far as others were taken. Returns how many.
  std::int64_t find_starts(const BackwardTensors<T>& t) {
    std::int64_t moved = 0;
#pragma omp parallel for reduction(+ : moved) num_threads(plan_.threads) if (plan_.threads > 1)
    for (std::int64_t channel = 0; channel < at_.channels(); ++channel) moved += find_starts(t, channel);
    return moved;
  }

  std::int64_t find_starts(const BackwardTensors<T>& t, std::int64_t channel) {
    std::int64_t all_moved = 0;
    bool moved = false;
    C by[K];  // x_{r-1} - s_{r-1}
    of(channel, 0).wanted = false;
    for (std::int64_t r = 1; r < plan_.cut.count; ++r) {
      const Segment& before = of(channel, r - 1);
      Segment& segment = of(channel, r);
      C truth[K];
      for (int i = 0; i < K; ++i) {
        double sum = before.end[i];
        for (int k = 0; moved && k < K; ++k) sum += std::ldexp(double(PRNN_FAULT(29, before.product[i][k], before.product[k][i])) * double(by[k]), before.exponent[k]);
        truth[i] = C(sum);
      }
      if (moved && !all_finite(truth) && all_finite(before.start)) {
        std::copy_n(before.start, K, truth);
        walk_back(t, channel, own(r - 1), low(r - 1), truth);
      }
      moved = !shoots_ || !continues(segment.start, truth);
      for (int k = 0; k < K; ++k) {
        by[k] = truth[k] - segment.start[k];
        if (moved) segment.start[k] = truth[k];
      }
      segment.wanted = moved;
      all_moved += moved;
    }
    return all_moved;
  }

  /// x [kState], the adjoint after step `from` (without grad_h of it), -> after step `to`.
  void walk_back(const BackwardTensors<T>& t, std::int64_t channel, std::int64_t from, std::int64_t to, C (&x)[K]) const {
    AdjointStrip<Cell, T> strip(at_, t, plan_.vector_bytes);
    const std::int64_t b = channel / at_.hidden;
    strip.clear();
    strip.add({.b = b, .d = channel - b * at_.hidden, .first = from, .own = from, .low = to, .width = 1, .stores = false});
    for (int k = 0; k < K; ++k) strip.g[k][0] = x[k];
    strip.walk([](const StretchBack&) {},
               [&](const StretchBack&) {
                 for (int k = 0; k < K; ++k) x[k] = strip.g[k][0];
               });
  }

  const Layout<Cell> at_;
  const bool shoots_;
  const Plan plan_;
  const bool accumulate_;
  std::vector<Segment> segments_;        // [B, segments, D]
  std::vector<CompensatedSum<C>> sums_;  // [B, segments, kWeights, D]
  std::vector<std::int64_t> jobs_;       // ascending
  Outcome outcome_;
};

template <class Cell, class T, bool kShoots>
class NamedRun final : public ReductionRun<Cell, T> {
 public:
  static constexpr const char* kName = kShoots ? "shooting" : "reduction";
  static std::int64_t workspace_bytes(const Problem& p) { return ReductionRun<Cell, T>::bytes_for(p, kShoots); }
  static PolicySpace space() {
    PolicySpace all = cut_space();
    all.push_back(vector_bytes_parameter());
    return all;
  }
  NamedRun(const Problem& p, Machine&) : ReductionRun<Cell, T>(p, kShoots) {}
};

template <class Cell, class T>
using Reduction = NamedRun<Cell, T, false>;
template <class Cell, class T>
using AdjointShooting = NamedRun<Cell, T, true>;

PRNN_REGISTER_SOLVER(Reduction, "cpu");
PRNN_REGISTER_SOLVER(AdjointShooting, "cpu");

}  // namespace
}  // namespace prnn::cpu
