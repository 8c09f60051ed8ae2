// shooting.cpp: segments of a channel run at once from a guess, each starting early enough to forget it; only where two do not meet, Newton on the
// boundaries. With few channels it is the segments that fill vectors and threads.
//   u [B, L, kInputs, D], a [kWeights, D], h0 [B, kState, D] -> h [B, L, kState, D], last [B, kState, D]
// The algorithm and the rule of the CUDA solver of this name (cuda/shooting.cu). Multiple shooting: Kiehl 1994, "Parallel multiple shooting for the
// solution of initial value problems".
//
// Segment p runs from state 0, `overlap` steps before its own first step (segments.hpp); s_p is its state there, e_p its last. Every boundary is
// tested (continues()). Where one fails, rounds follow, until all pass:
//     b_p = e_{p-1} + J_{p-1} (b_{p-1} - s_{p-1})    J the product of Jacobians along the last run, 0 where there was none
//     rerun from b_p the segments whose start moves, now with J
// After k rounds the first k boundaries are exact, whatever J is.
#include <vector>

#include "kernels/fault.hpp"
#include "kernels/primitives/segments.hpp"
#include "kernels/solvers/cpu/lanes.hpp"

namespace prnn::cpu {
namespace {

template <class Cell, class T>
class Shooting final : public Run {
 public:
  static constexpr const char* kName = "shooting";
  static constexpr bool kIterates = false, kDeterministic = true;
  static std::int64_t workspace_bytes(const Problem& p) {
    const std::int64_t segments = p.batch * p.hidden * Plan(p).cut.count;
    return segments * std::int64_t(sizeof(Segment) + sizeof(std::int64_t));
  }
  static PolicySpace space() {
    PolicySpace all = cut_space();
    all.push_back(vector_bytes_parameter());
    return all;
  }

  Shooting(const Problem& p, Machine&) : at_(layout_of<Cell>(p)), plan_(p), segments_(std::size_t(at_.channels() * plan_.cut.count)) { again_.reserve(segments_.size()); }
  Policy policy() const override { return {{"segments", plan_.segments}, {"overlap", plan_.overlap}, {"vector_bytes", plan_.vector_bytes}}; }
  int launches() const override { return 1; }

  void launch(const Tensors& tensors, Stream) override {
    const RecurrenceTensors<T> t(tensors);
    run_all(t);
    outcome_ = {.converged = true, .rounds = 0, .boundaries = at_.channels() * (plan_.cut.count - 1), .boundaries_failed = 0};
    for (std::int64_t round = 0;; ++round) {
      const std::int64_t failed = move_starts();
      if (failed == 0) break;
      if (round == 0) outcome_.boundaries_failed = failed;
      if (round > plan_.cut.count) {  // the exact prefix has grown past the last segment: not reached
        outcome_.converged = false;
        break;
      }
      outcome_.rounds = round + 1;
      run_again(t);
    }
    for (std::int64_t channel = 0; channel < at_.channels(); ++channel) {
      const std::int64_t b = channel / at_.hidden;
      store_last<Cell, T>(at_, t, b, channel - b * at_.hidden, of(channel, plan_.cut.count - 1).end);
    }
    outcome_.nonfinite = first_nonfinite<Cell, T>(at_, t);
  }

  Outcome outcome() override { return outcome_; }

 private:
  using C = compute_t<T>;
  static constexpr int K = Cell::kState;

  /// A problem's policy, and what follows from it.
  struct Plan {
    explicit Plan(const Problem& p)
        : vector_bytes(chosen_vector_bytes(p)),
          threads(threads_for(p.batch * p.hidden * p.seq_len)),
          overlap(chosen(p.policy, "overlap", shooting_overlap(p.batch * p.hidden, p.seq_len, size_of(p.storage)))),
          segments(chosen(p.policy, "segments", shipped_segments(p))),
          cut(Segments::cut(p.seq_len, segments, overlap)) {}

    /// One vector of bytes (lanes.hpp) a thread: more lanes would take more time, each. Segments no shorter than 8 steps.
    int shipped_segments(const Problem& p) const {
      return int(std::clamp<std::int64_t>(std::int64_t(threads) * vector_bytes / (p.batch * p.hidden), 1, std::max<std::int64_t>((p.seq_len - overlap) / 8, 1)));
    }

    int vector_bytes, threads, overlap, segments;
    Segments cut;
  };

  struct Segment {
    C start[K], end[K];  // s_p, e_p
    C product[K][K];     // J_p
    bool again = false;  // the first: never
  };
  /// Lanes are (b, p, d), d fastest.
  std::int64_t lane_of(std::int64_t channel, std::int64_t p) const {
    const std::int64_t b = channel / at_.hidden;
    return (b * plan_.cut.count + p) * at_.hidden + channel - b * at_.hidden;
  }
  Segment& of(std::int64_t channel, std::int64_t p) { return segments_[std::size_t(lane_of(channel, p))]; }

  /// The lanes lane .. lane + width - 1 of one segment.
  Stretch stretch_at(std::int64_t lane, std::int64_t width, bool only_own) const {
    const std::int64_t row = lane / at_.hidden, b = row / plan_.cut.count, p = row - b * plan_.cut.count, own = plan_.cut.own(p);
    return {.b = b, .d = lane - row * at_.hidden, .first = only_own ? own : plan_.cut.first(p), .own = own, .end = plan_.cut.end(p), .width = int(width)};
  }

  /// keep(segment, lane of the strip): for the i-th lane of this strip it is segment lane_at(i).
  template <class LaneAt, class Keep>
  void for_lanes(const Strip<Cell, T>& strip, const LaneAt& lane_at, const Keep& keep) {
    for (const Stretch& stretch : strip) {
      for (int i = 0; i < stretch.width; ++i) keep(segments_[std::size_t(lane_at(stretch.lane + i))], stretch.lane + i);
    }
  }

  /// Every segment from its guess, or from h0.
  void run_all(const RecurrenceTensors<T>& t) {
    for_each_strip<Strip<Cell, T>>(at_, t, plan_.vector_bytes, plan_.threads, std::int64_t(segments_.size()), [&](Strip<Cell, T>& strip, std::int64_t first, std::int64_t end) {
      for (std::int64_t lane = first; lane < end;) {
        const std::int64_t width = std::min(at_.hidden - lane % at_.hidden, end - lane);
        strip.add(stretch_at(lane, width, false));
        lane += width;
      }
      strip.start();
      const auto lane_at = [&](int i) { return first + i; };
      strip.walk(plan_.cut.overlap);
      for_lanes(strip, lane_at, [&](Segment& segment, int lane) {
        for (int i = 0; i < K; ++i) segment.start[i] = strip.h[i][lane];
      });
      strip.walk(at_.seq_len);
      for_lanes(strip, lane_at, [&](Segment& segment, int lane) {
        for (int i = 0; i < K; ++i) segment.end[i] = strip.h[i][lane];
        for (auto& row : segment.product) std::fill_n(row, K, C(0));
      });
    });
  }

  /// Tests every boundary; moves the starts that have to move and notes them in again_. Returns the number of boundaries that fail.
  std::int64_t move_starts() {
    std::int64_t failed = 0;
#pragma omp parallel for reduction(+ : failed) num_threads(plan_.threads) if (plan_.threads > 1)
    for (std::int64_t channel = 0; channel < at_.channels(); ++channel) failed += move_starts(channel);
    again_.clear();
    if (failed > 0) {
      for (std::size_t lane = 0; lane < segments_.size(); ++lane) {
        if (segments_[lane].again) again_.push_back(std::int64_t(lane));
      }
    }
    return failed;
  }

  std::int64_t move_starts(std::int64_t channel) {
    std::int64_t failed = 0;
    C moved_by[K] = {};  // b_{p-1} - s_{p-1}
    for (std::int64_t p = 1; p < PRNN_FAULT(15, plan_.cut.count, plan_.cut.count - 1); ++p) {
      const Segment& before = of(channel, p - 1);
      Segment& segment = of(channel, p);
      const bool passes = continues(segment.start, before.end);
      failed += !passes;
      C moved[K], by[K];
      bool finite = true;
      for (int i = 0; i < K; ++i) {
        by[i] = passes ? C(0) : before.end[i] - segment.start[i];
        moved[i] = before.end[i];
        for (int j = 0; j < K; ++j) {
          by[i] = before.product[i][j] * moved_by[j] + by[i];
          moved[i] = before.product[i][j] * moved_by[j] + moved[i];
        }
        finite = finite && is_finite(moved[i]);
      }
      if (!finite) std::copy_n(before.end, K, moved);
      std::copy_n(by, K, moved_by);
      segment.again = !(passes && continues(segment.start, moved));
      if (segment.again) std::copy_n(moved, K, segment.start);
    }
    return failed;
  }

  /// The segments of again_, from their new starts, with the product of their Jacobians.
  void run_again(const RecurrenceTensors<T>& t) {
    for_each_strip<Strip<Cell, T>>(at_, t, plan_.vector_bytes, plan_.threads, std::int64_t(again_.size()), [&](Strip<Cell, T>& strip, std::int64_t first, std::int64_t end) {
      for (std::int64_t i = first; i < end;) {
        const std::int64_t lane = again_[std::size_t(i)];
        std::int64_t width = 1;
        while (i + width < end && again_[std::size_t(i + width)] == lane + width && (lane + width) % at_.hidden != 0) ++width;
        strip.add(stretch_at(lane, width, true));
        i += width;
      }
      strip.start();
      const auto lane_at = [&](int i) { return again_[std::size_t(first + i)]; };
      for_lanes(strip, lane_at, [&](const Segment& segment, int lane) {
        for (int i = 0; i < K; ++i) {
          strip.h[i][lane] = segment.start[i];
          for (int j = 0; j < K; ++j) strip.product[i][j][lane] = C(i == j ? 1 : 0);
        }
      });
      strip.walk(at_.seq_len, true);
      for_lanes(strip, lane_at, [&](Segment& segment, int lane) {
        for (int i = 0; i < K; ++i) {
          segment.end[i] = strip.h[i][lane];
          for (int j = 0; j < K; ++j) segment.product[i][j] = strip.product[i][j][lane];
        }
      });
    });
  }

  const Layout<Cell> at_;
  const Plan plan_;
  std::vector<Segment> segments_;    // [B, segments, D]
  std::vector<std::int64_t> again_;  // lanes to rerun, ascending
  Outcome outcome_;
};

PRNN_REGISTER_SOLVER(Shooting, "cpu");

}  // namespace
}  // namespace prnn::cpu
