// newton_fused.cpp: Newton's method on tiles of the sequence, the linear recurrence of each iteration solved by substitution.
//   u [B, L, kInputs, D], a [kWeights, D], h0 [B, kState, D] -> h [B, L, kState, D], last [B, kState, D]
// Danieli et al. 2025 (arXiv:2510.21450), eq. 2.1 and A.1: guess h_l = f(0, u_l), then h += dh with dh_l = J_l dh_{l-1} + r_l.
// On a CPU this is never faster than seq_fused; it is here so that convergence can be seen and verified on any machine. Same iterates as
// the CUDA solver of this name where one tile holds the sequence.
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "kernels/fault.hpp"
#include "kernels/primitives/convergence.hpp"
#include "kernels/solvers/cpu/channels.hpp"

namespace prnn::cpu {
namespace {

/// Largest residual and step of each iteration, over channels and tiles; k = 0 is the guess.
struct Trace {
  std::vector<double> residual, step;

  void record(std::size_t k, double residual_max, double step_max) {
    if (residual.size() <= k) residual.resize(k + 1), step.resize(k + 1);
    residual[k] = max_or_nan(residual[k], residual_max);
    step[k] = max_or_nan(step[k], step_max);
  }
  void merge(const Trace& other) {
    for (std::size_t k = 0; k < other.residual.size(); ++k) record(k, other.residual[k], other.step[k]);
  }
};

template <class Cell, class T>
class NewtonFused final : public Run {
 public:
  static constexpr const char* kName = "newton_fused";
  static constexpr bool kIterates = true, kDeterministic = true;
  static std::int64_t workspace_bytes(const Problem&) { return 0; }
  static PolicySpace space() { return {{.key = "steps_a_tile", .most = 1 << 20}}; }

  NewtonFused(const Problem& problem, Machine&) : at_(layout_of<Cell>(problem)), limit_(problem.iteration_limit), tile_(kShippedTile) {
    if (const auto key = problem.policy.find("steps_a_tile"); key != problem.policy.end()) tile_ = key->second;
    tile_ = std::min(tile_, at_.seq_len);
  }
  Policy policy() const override { return {{"steps_a_tile", tile_}}; }
  int launches() const override { return 1; }
  void launch(const Tensors& tensors, Stream) override { solve(tensors, nullptr); }
  void trace(const Tensors& tensors, Stream) override {
    Trace trace;
    solve(tensors, &trace);
    outcome_.residual_max = std::move(trace.residual);
    outcome_.step_max = std::move(trace.step);
  }
  Outcome outcome() override { return outcome_; }

 private:
  using C = compute_t<T>;
  static constexpr int K = Cell::kState;
  static constexpr std::int64_t kShippedTile = 4096;

  struct Step {
    C u[Cell::kInputs], h[K];
    Affine<C, K> linear;  // (J, r) at the current iterate
  };
  struct Progress {
    std::int64_t iterations = 0;
    bool converged = true;
  };

  void solve(const Tensors& tensors, Trace* trace) {
    const RecurrenceTensors<T> t(tensors);
    Progress all;
#pragma omp parallel if (at_.position(at_.batch, 0, 0) > kStepsWorthThreads)
    {
      Progress mine;
      Trace my_trace;
      std::vector<Step> tile(static_cast<std::size_t>(tile_));
#pragma omp for schedule(static) collapse(2) nowait
      for (std::int64_t b = 0; b < at_.batch; ++b) {
        for (std::int64_t d = 0; d < at_.hidden; ++d) solve_channel(t, b, d, tile, mine, trace ? &my_trace : nullptr);
      }
#pragma omp critical
      {
        all.iterations = std::max(all.iterations, mine.iterations);
        all.converged = all.converged && mine.converged;
        if (trace) trace->merge(my_trace);
      }
    }
    outcome_ = {.iterations = all.iterations, .steps_a_tile = tile_, .converged = all.converged, .nonfinite = first_nonfinite<Cell, T>(at_, t)};
    if (limit_) outcome_.converged.reset();
  }

  void solve_channel(const RecurrenceTensors<T>& t, std::int64_t b, std::int64_t d, std::vector<Step>& tile, Progress& progress, Trace* trace) {
    C a[Cell::kWeights], carry[K];
    load_start<Cell, T>(at_, t, b, d, a, carry);
    for (std::int64_t start = 0; start < at_.seq_len; start += tile_) {
      const std::int64_t steps = std::min(tile_, at_.seq_len - start);
      for (std::int64_t s = 0; s < steps; ++s) {
        Step& step = tile[std::size_t(s)];
        load_inputs<Cell, T>(at_, t, b, start + s, d, step.u);
        guess(a, step);
      }
      std::int64_t alive = is_finite(carry[0]) ? finite_steps(tile, steps) : 0;  // a guess that is NaN has a non-finite input, and nothing after it can be a number
      iterate(a, carry, tile, alive, progress, trace);
      alive = finite_steps(tile, alive);  // at a fixed count an iterate may have left the range of numbers
      for (std::int64_t s = alive; s < steps; ++s) {
        for (C& h : tile[std::size_t(s)].h) h = not_a_number<C>();
      }
      for (std::int64_t s = 0; s < steps; ++s) store_state<Cell, T>(at_, t, b, start + s, d, tile[std::size_t(s)].h);
      std::copy_n(tile[std::size_t(PRNN_FAULT(10, steps, tile_) - 1)].h, K, carry);
    }
    store_last<Cell, T>(at_, t, b, d, carry);
  }

  static void guess(const C (&a)[Cell::kWeights], Step& step) {
    const C zero[K] = {};
    Cell::step(zero, a, step.u, step.h);
  }

  /// Of tile[0 .. steps), those before the first that is not finite.
  static std::int64_t finite_steps(const std::vector<Step>& tile, std::int64_t steps) {
    std::int64_t s = 0;
    while (s < steps && all_finite(tile[std::size_t(s)].h)) ++s;
    return s;
  }

  /// Newton on tile[0 .. steps): adaptive until the new iterate passes (convergence.hpp), or exactly limit_ linear solves, unchecked.
  void iterate(const C (&a)[Cell::kWeights], const C (&carry)[K], std::vector<Step>& tile, std::int64_t steps, Progress& progress, Trace* trace) {
    // After k solves the first k states are exact, so steps + 1 always suffice in exact arithmetic.
    const std::int64_t most = limit_ ? *limit_ : steps + 1;
    double step_max = 0;
    bool passed = false;  // at the iterate before
    for (std::int64_t k = 0;; ++k) {
      if (k == most && limit_ && !trace) {  // as the paper does: the last iterate is taken as it is
        progress.iterations = std::max(progress.iterations, k);
        return;
      }
      double residual_max = 0;
      Fit fit;
      for (std::int64_t s = 0; s < steps; ++s) {
        Step& step = tile[std::size_t(s)];
        const C(&before)[K] = s == 0 ? carry : tile[std::size_t(s - 1)].h;
        C f[K];
        step_and_jacobian<Cell>(before, a, step.u, f, step.linear.jacobian);
        for (int i = 0; i < K; ++i) {
          step.linear.offset[i] = f[i] - step.h[i];
          residual_max = max_or_nan(residual_max, std::fabs(double(step.linear.offset[i])));
        }
        fit.also(fit_of(step.linear, step.h, before));
      }
      if (trace) trace->record(std::size_t(k), residual_max, step_max);
      const bool converged = fit.converged(passed);
      passed = fit.passes;
      if (k == most || (!limit_ && converged)) {
        progress.iterations = std::max(progress.iterations, k);
        progress.converged = progress.converged && converged;
        return;
      }
      step_max = 0;
      C delta[K] = {};
      for (std::int64_t s = 0; s < steps; ++s) {
        Step& step = tile[std::size_t(s)];
        C next[K];
        apply(step.linear, delta, next);
        bool finite = true;
        for (int i = 0; i < K; ++i) {
          delta[i] = next[i];
          step.h[i] = step.h[i] + delta[i];
          step_max = max_or_nan(step_max, std::fabs(double(delta[i])));
          finite = finite && is_finite(step.h[i]);
        }
        if (!finite && PRNN_FAULT(65, !limit_, true)) guess(a, step);  // an overflow ahead of the exact front starts again
      }
    }
  }

  Layout<Cell> at_;
  std::optional<int> limit_;
  std::int64_t tile_;
  Outcome outcome_;
};

PRNN_REGISTER_SOLVER(NewtonFused, "cpu");

}  // namespace
}  // namespace prnn::cpu
