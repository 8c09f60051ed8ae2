// solvers.emulated.test.cpp: every device solver on the emulated GPU, against plain loops written here. With PRNN_TEST_DEVICE=cuda the same
// tests run on a GPU (ctest label gpu).
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "kernels/cells/layout.hpp"
#include "kernels/ops/recurrence.hpp"
#include "kernels/ops/testing.hpp"
#include "kernels/primitives/device_emulated.hpp"
#include "kernels/primitives/machine_host.hpp"
#include "kernels/primitives/policy.hpp"
#include "kernels/primitives/register.hpp"

namespace prnn {
namespace {

using emulated::Order;
using emulated::Schedule;
using testing::Workbench;

constexpr const char* kSolvers[] = {"seq_stepwise", "seq_graph", "seq_fused", "newton_unfused", "newton_fused", "shooting"};
constexpr const char* kSequential[] = {"seq_stepwise", "seq_graph", "seq_fused"};
constexpr const char* kNewton[] = {"newton_unfused", "newton_fused"};
using testing::kMostRatio;

const char* device() {
  const char* chosen = std::getenv("PRNN_TEST_DEVICE");
  return chosen ? chosen : "emulated";
}

Machine& machine() {
  static const std::unique_ptr<Machine> opened = testing::open_machine(device());
  return *opened;
}

/// Skips all tests, with the reason, where the device asked for is not there.
class DeviceIsThere : public ::testing::Environment {
  void SetUp() override {
    for (const MachineEntry& entry : machines()) {
      if (entry.device == device() && !entry.why_not().empty()) GTEST_SKIP() << entry.why_not();
    }
  }
};
[[maybe_unused]] const ::testing::Environment* const environment = ::testing::AddGlobalTestEnvironment(new DeviceIsThere);

// f32: tiles of 4 steps; segments that have forgotten nothing when their own steps begin, in two blocks.
const Policy kTiny = {{"threads", 32}, {"steps_a_thread", 1}, {"channels_a_block", 8}, {"segments", 11}, {"overlap", 2}, {"blocks_a_team", 2}};

struct WithSchedule {
  explicit WithSchedule(Schedule schedule) { emulated::set_schedule(schedule); }
  ~WithSchedule() { emulated::set_schedule({}); }
};

template <class Cell, class T>
Problem problem(std::int64_t batch, std::int64_t hidden, std::int64_t seq_len, Policy policy = {}) {
  Problem p;
  p.cell = Cell::name;
  p.storage = storage_of<T>;
  p.batch = batch;
  p.hidden = hidden;
  p.seq_len = seq_len;
  p.h0 = "random";
  p.policy = std::move(policy);
  return p;
}

/// The numbers of channel (b, d), in X.
template <class Cell, class X>
struct Channel {
  X a[Cell::kWeights], h0[Cell::kState];
  std::vector<std::array<X, Cell::kInputs>> u;

  template <class T>
  static Channel of(const Workbench& bench, std::int64_t b, std::int64_t d) {
    const Layout<Cell> at = layout_of<Cell>(bench.problem);
    const auto u = bench.values<T>("u"), a = bench.values<T>("a");
    const auto h0 = bench.values<compute_t<T>>("h0");
    Channel c;
    for (int k = 0; k < Cell::kWeights; ++k) c.a[k] = X(to_compute(a[std::size_t(at.a(k, d))]));
    for (int k = 0; k < Cell::kState; ++k) c.h0[k] = X(h0[std::size_t(at.edge(b, k, d))]);
    c.u.resize(std::size_t(at.seq_len));
    for (std::int64_t l = 0; l < at.seq_len; ++l) {
      for (int k = 0; k < Cell::kInputs; ++k) c.u[std::size_t(l)][std::size_t(k)] = X(to_compute(u[std::size_t(at.u(b, l, k, d))]));
    }
    return c;
  }
};

template <class A, std::size_t N>
void copy_to(A (&to)[N], const std::array<A, N>& from) {
  std::copy(from.begin(), from.end(), to);
}

/// Largest error of h and last over the bound E_l + u_s |h_l|, E_l = |J_l| E_{l-1} + g_l, against the loop of Cell::step in double.
template <class Cell, class T>
double forward_ratio(const Workbench& bench) {
  using C = compute_t<T>;
  constexpr int K = Cell::kState;
  const Layout<Cell> at = layout_of<Cell>(bench.problem);
  const auto h = bench.values<T>("h");
  const auto last = bench.values<C>("last");
  double worst = 0;
  const auto judge = [&](double got, double truth, double bound) {
    const double ratio = std::fabs(got - truth) / bound;
    if (!(ratio <= worst)) worst = ratio;
  };
  for (std::int64_t b = 0; b < at.batch; ++b) {
    for (std::int64_t d = 0; d < at.hidden; ++d) {
      const auto c = Channel<Cell, double>::template of<T>(bench, b, d);
      double state[K], error[K] = {};
      std::copy_n(c.h0, K, state);
      for (std::int64_t l = 0; l < at.seq_len; ++l) {
        double u[Cell::kInputs], f[K], jacobian[K][K], g[K], grown[K];
        copy_to(u, c.u[std::size_t(l)]);
        step_and_bound<Cell>(state, c.a, u, unit_roundoff_v<C>, gate_error_v<C>, f, jacobian, g);
        for (int i = 0; i < K; ++i) {
          grown[i] = g[i];
          for (int j = 0; j < K; ++j) grown[i] += jacobian[i][j] * error[j];
        }
        for (int i = 0; i < K; ++i) {
          error[i] = grown[i];
          state[i] = f[i];
          judge(to_compute(h[std::size_t(at.h(b, l, i, d))]), state[i], error[i] + unit_roundoff_v<T> * std::fabs(state[i]));
          if (l + 1 == at.seq_len) judge(last[std::size_t(at.edge(b, i, d))], state[i], error[i]);
        }
      }
    }
  }
  return worst;
}

// ---------------------------------------------------------------------------------------------------------------------
// Right answers

template <class Cell, class T>
void check_right(const Problem& p, std::string_view solver) {
  Workbench bench(p, machine());
  const Outcome outcome = bench.solve(solver);
  const std::string where = std::string(solver) + " " + p.cell + " " + std::string(to_string(p.storage)) + " B " + std::to_string(p.batch) + " D " + std::to_string(p.hidden) +
                            " L " + std::to_string(p.seq_len) + (p.policy.empty() ? "" : " tiny");
  const bool newton = solver.starts_with("newton"), checked = newton || solver == "shooting";
  EXPECT_LE((forward_ratio<Cell, T>(bench)), kMostRatio) << where;
  EXPECT_LE(bench.ratio_local(), kMostRatio) << where;
  EXPECT_EQ(outcome.iterations.has_value(), newton) << where;
  EXPECT_EQ(outcome.converged, checked ? std::optional(true) : std::nullopt) << where;
  EXPECT_FALSE(outcome.nonfinite) << where;
}

TEST(EveryDeviceSolver, IsRightAtSmallShapesUnderEverySchedule) {
  std::uint64_t turn = 0;
  AllCells::for_each([&]<class Cell>() {
    for (const char* solver : kSolvers) {
      for (const auto& [batch, hidden, seq_len] : std::vector<std::array<std::int64_t, 3>>{{1, 1, 1}, {2, 3, 2}, {1, 8, 17}, {3, 1, 33}, {1, 33, 16}, {2, 9, 50}}) {
        for (const Policy& policy : {Policy{}, kTiny}) {
          const WithSchedule set({std::array{Order::ascending, Order::descending, Order::random}[turn % 3], turn});
          ++turn;
          check_right<Cell, float>(problem<Cell, float>(batch, hidden, seq_len, policy), solver);
        }
      }
    }
  });
}

TEST(EveryDeviceSolver, IsRightInEveryStorageType) {
  std::uint64_t turn = 0;
  for_each_compiled([&]<class Cell, class T>() {
    for (const char* solver : kSolvers) {
      const WithSchedule set({std::array{Order::descending, Order::random, Order::ascending}[turn % 3], turn});
      ++turn;
      check_right<Cell, T>(problem<Cell, T>(2, 5, 37), solver);
      check_right<Cell, T>(problem<Cell, T>(1, 5, 21, {{"threads", 32}, {"channels_a_block", 4}, {"segments", 3}, {"overlap", 4}}), solver);
      // Rows of whole 16-byte chunks, of whole words only, and of neither, over more steps than are copied ahead.
      for (const std::int64_t hidden : {16, 6, 9}) check_right<Cell, T>(problem<Cell, T>(2, hidden, 75, {{"channels_a_block", 8}, {"segments", 2}, {"overlap", 5}}), solver);
    }
  });
}

/// Of a launch under each of several schedules: h and what the solver says of its way there, which a race shows in although the iterates mend what it did.
std::size_t different_results(const Problem& p, const char* solver) {
  std::set<std::tuple<std::vector<unsigned char>, std::optional<std::int64_t>, std::optional<std::int64_t>, std::optional<std::int64_t>>> results;
  for (const Schedule schedule : {Schedule{Order::ascending}, Schedule{Order::descending}, Schedule{Order::random, 1}, Schedule{Order::random, 2}}) {
    const WithSchedule set(schedule);
    Workbench bench(p, machine());
    const Outcome outcome = bench.solve(solver);
    results.insert({bench.bytes("h"), outcome.iterations, outcome.rounds, outcome.boundaries_failed});
  }
  return results.size();
}

TEST(EveryDeviceSolver, GivesTheSameBitsUnderEverySchedule) {
  AllCells::for_each([&]<class Cell>() {
    for (const char* solver : kSolvers) {
      for (const Policy& policy : {kTiny, Policy{{"threads", 128}, {"steps_a_thread", 1}, {"channels_a_block", 2}, {"segments", 30}, {"overlap", 1}}}) {  // one warp, three
        Problem p = problem<Cell, float>(1, 6, 45, policy);
        p.regime = "wide";
        EXPECT_EQ(different_results(p, solver), 1u) << solver << " " << p.cell;
      }
    }
  });
  // Two channels a thread, in several warps of a block.
  Problem p = problem<GruDiag, Bf16>(1, 16, 45, {{"channels_a_block", 8}, {"segments", 30}, {"overlap", 1}});
  p.regime = "wide";
  for (const char* solver : kSolvers) EXPECT_EQ(different_results(p, solver), 1u) << solver;
}

TEST(TheSequentialSolvers, AgreeToTheBitWhetherInputsComeAsTilesOrWordByWord) {
  std::uint64_t turn = 0;
  AllCells::for_each([&]<class Cell>() {
    for (const std::int64_t seq_len : {1, 7, 8, 9, 31, 40, 75}) {  // around a tile of 8 steps and a ring of four
      for (const auto& [hidden, threads] : std::vector<std::array<std::int64_t, 2>>{{32, 32}, {128, 64}, {96, 96}}) {
        for (const char* gates : {"exact", "approx"}) {
          if (gates == std::string_view("approx") && !has_approximate_gates<Cell>) continue;
          const WithSchedule set({std::array{Order::ascending, Order::descending, Order::random}[turn % 3], turn});
          ++turn;
          Problem p = problem<Cell, float>(2, hidden, seq_len, {{"tiles", 0}});
          p.gates = gates;
          Workbench words(p, machine());
          words.solve("seq_fused");
          p.policy = {{"tiles", 1}, {"threads", threads}};
          EXPECT_EQ(find_solver("seq_fused", device(), p)->prepare(p, machine())->policy(), (Policy{{"tiles", 1}, {"threads", threads}, {"prefetch", 16}}));
          Workbench tiles(p, machine());
          tiles.solve("seq_fused");
          const std::string where = p.cell + " D " + std::to_string(hidden) + " L " + std::to_string(seq_len) + " " + gates;
        }
      }
    }
  });
}

TEST(Shooting, HasTheSameBitsHoweverFarAheadItCopies) {
  for_each_compiled([&]<class Cell, class T>() {
    if (sizeof(T) == 8) return;
    Problem p = problem<Cell, T>(2, 16, 150, {{"segments", 2}, {"overlap", 5}, {"channels_a_block", 16}, {"prefetch", 24}});
    Workbench far(p, machine());
    far.solve("shooting");
    p.policy["prefetch"] = 16;
    if (!find_solver("shooting", device(), p)->why_not(p).empty()) return;  // not compiled with the program, and no compiler here
    EXPECT_EQ(find_solver("shooting", device(), p)->prepare(p, machine())->policy().at("prefetch"), 16);
    Workbench near(p, machine());
    near.solve("shooting");
    EXPECT_EQ(near.bytes("h"), far.bytes("h")) << p.cell << " " << to_string(p.storage);
    p.hidden = 15;  // no whole 16-byte words
    p.policy.erase("prefetch");
    EXPECT_EQ(find_solver("shooting", device(), p)->prepare(p, machine())->policy().at("prefetch"), 24);
  });
}

TEST(TheSequentialSolvers, AgreeToTheBitAndAtAnySplit) {
  for_each_compiled([&]<class Cell, class T>() {
    const Problem whole = problem<Cell, T>(2, 5, 21);
    Workbench bench(whole, machine());
    bench.solve("seq_fused");
    const auto h = bench.bytes("h"), last = bench.bytes("last");
    for (const char* solver : kSequential) {
      Workbench again(whole, machine());
      again.solve(solver);
      EXPECT_EQ(again.bytes("h"), h) << solver;
      EXPECT_EQ(again.bytes("last"), last) << solver;
    }
    // The state crosses a split in compute type: 16-bit storage must not round it. One batch row, so that steps are contiguous.
    const Layout<Cell> at = layout_of<Cell>(problem<Cell, T>(1, 5, 21));
    Workbench unsplit(problem<Cell, T>(1, 5, 21), machine());
    unsplit.solve("seq_stepwise");
    const auto u = unsplit.values<T>("u"), a = unsplit.values<T>("a");
    for (const char* solver : kSequential) {
      Workbench head(problem<Cell, T>(1, 5, 13), machine()), tail(problem<Cell, T>(1, 5, 8), machine());
      head.put("u", std::vector<T>(u.begin(), u.begin() + at.u(0, 13, 0, 0)));
      tail.put("u", std::vector<T>(u.begin() + at.u(0, 13, 0, 0), u.end()));
      head.put("a", a);
      tail.put("a", a);
      head.put("h0", unsplit.values<compute_t<T>>("h0"));
      head.solve(solver);
      tail.put("h0", head.values<compute_t<T>>("last"));
      tail.solve(solver);
      EXPECT_EQ(tail.bytes("last"), unsplit.bytes("last")) << solver;
    }
  });
}

// ---------------------------------------------------------------------------------------------------------------------
// Newton's iterates

/// Newton with plain substitution in X on tiles of `tile` steps: exactly `solves` linear solves each. Iterates [k][L][K], k = 0 the guess; each
/// tile starts from the last iterate of the one before.
template <class Cell, class X>
std::vector<std::vector<std::array<X, Cell::kState>>> plain_newton(const Channel<Cell, X>& c, std::int64_t tile, int solves) {
  constexpr int K = Cell::kState;
  const std::size_t length = c.u.size();
  std::vector<std::vector<std::array<X, K>>> iterates(std::size_t(solves + 1), std::vector<std::array<X, K>>(length));
  std::array<X, K> carry;
  std::copy_n(c.h0, K, carry.begin());
  for (std::size_t begin = 0; begin < length; begin += std::size_t(tile)) {
    const std::size_t end = std::min(length, begin + std::size_t(tile));
    for (int k = 0; k <= solves; ++k) {
      X delta[K] = {};
      for (std::size_t l = begin; l < end; ++l) {
        X u[Cell::kInputs], before[K] = {}, f[K], jacobian[K][K];
        copy_to(u, c.u[l]);
        if (k > 0) copy_to(before, l == begin ? carry : iterates[std::size_t(k - 1)][l - 1]);
        step_and_jacobian<Cell>(before, c.a, u, f, jacobian);
        X next[K];
        for (int i = 0; i < K; ++i) {
          if (k == 0) {
            iterates[0][l][std::size_t(i)] = f[i];
            continue;
          }
          const X h = iterates[std::size_t(k - 1)][l][std::size_t(i)];
          next[i] = f[i] - h;
          for (int j = 0; j < K; ++j) next[i] += jacobian[i][j] * delta[j];
          iterates[std::size_t(k)][l][std::size_t(i)] = h + next[i];
        }
        if (k > 0) std::copy_n(next, K, delta);
      }
    }
    carry = iterates[std::size_t(solves)][end - 1];
  }
  return iterates;
}

std::int64_t tile_of(const Problem& p, std::string_view solver) {
  if (solver == "newton_unfused") return p.seq_len;
  const Policy policy = find_solver(solver, device(), p)->prepare(p, machine())->policy();
  return policy.at("threads") / policy.at("channels_a_block") * policy.at("steps_a_thread");
}

TEST(ANewtonSolverAtAFixedCount, GivesTheTrueIterates) {
  AllCells::for_each([&]<class Cell>() {
    constexpr std::size_t K = Cell::kState;
    for (const char* solver : kNewton) {
      for (const int solves : {0, 1, 2, 3}) {
        for (const Policy& policy : {kTiny, Policy{{"threads", 64}, {"steps_a_thread", 4}, {"channels_a_block", 8}}, Policy{}}) {
          Problem p = problem<Cell, float>(2, 3, 39, policy);
          p.iteration_limit = solves;
          Workbench bench(p, machine());
          const Outcome outcome = bench.solve(solver);
          EXPECT_EQ(outcome.iterations, solves);
          EXPECT_FALSE(outcome.converged) << "nothing was checked, so nothing is claimed";
          const Layout<Cell> at = layout_of<Cell>(p);
          const auto h = bench.values<float>("h");
          const std::int64_t tile = tile_of(p, solver);
          double error = 0, plain_error = 0, size = 1;
          for (std::int64_t b = 0; b < 2; ++b) {
            for (std::int64_t d = 0; d < 3; ++d) {
              const auto truth = plain_newton<Cell, double>(Channel<Cell, double>::template of<float>(bench, b, d), tile, solves).back();
              const auto plain = plain_newton<Cell, float>(Channel<Cell, float>::template of<float>(bench, b, d), tile, solves).back();
              for (std::size_t l = 0; l < truth.size(); ++l) {
                for (std::size_t i = 0; i < K; ++i) {
                  error = std::max(error, std::fabs(double(h[std::size_t(at.h(b, std::int64_t(l), int(i), d))]) - truth[l][i]));
                  plain_error = std::max(plain_error, std::fabs(double(plain[l][i]) - truth[l][i]));
                  size = std::max(size, std::fabs(truth[l][i]));
                }
              }
            }
          }
          // The scan may lose what plain substitution in the same precision loses, times c.
          EXPECT_LE(error, kMostRatio * (plain_error + unit_roundoff_v<float> * size)) << solver << " " << p.cell << " solves " << solves << " tile " << tile;
        }
      }
    }
  });
}

TEST(ANewtonSolver, TracesResidualAndStepOfEachIterate) {
  AllCells::for_each([&]<class Cell>() {
    if (is_affine<Cell>) return;  // its second residual is rounding
    constexpr std::size_t K = Cell::kState;
    for (const char* solver : kNewton) {
      for (const std::optional<int> limit : {std::optional<int>{}, std::optional<int>{2}}) {
        Problem p = problem<Cell, double>(1, 5, 24, {{"threads", 64}, {"channels_a_block", 4}});
        p.iteration_limit = limit;
        Workbench bench(p, machine());
        const Outcome untraced = bench.solve(solver);
        EXPECT_TRUE(untraced.residual_max.empty());
        const auto h = bench.bytes("h");
        const Outcome outcome = bench.solve(solver, true);
        EXPECT_EQ(bench.bytes("h"), h) << "a trace changes nothing";
        EXPECT_EQ(outcome.iterations, untraced.iterations);
        ASSERT_EQ(outcome.residual_max.size(), std::size_t(*outcome.iterations) + 1);
        ASSERT_EQ(outcome.step_max.size(), outcome.residual_max.size());
        EXPECT_EQ(outcome.step_max[0], 0);
        // The first residuals are large: plain Newton gives them to many digits.
        ASSERT_GE(tile_of(p, solver), 24) << "one tile holds the sequence";
        ASSERT_GE(outcome.residual_max.size(), 3u);
        double residual[3] = {}, step[3] = {};
        for (std::int64_t d = 0; d < 5; ++d) {
          const auto c = Channel<Cell, double>::template of<double>(bench, 0, d);
          const auto iterates = plain_newton<Cell, double>(c, 24, 2);
          for (std::size_t k = 0; k < 3; ++k) {
            for (std::size_t l = 0; l < 24; ++l) {
              double u[Cell::kInputs], before[K], f[K];
              copy_to(u, c.u[l]);
              for (std::size_t i = 0; i < K; ++i) before[i] = l == 0 ? c.h0[i] : iterates[k][l - 1][i];
              Cell::step(before, c.a, u, f);
              for (std::size_t i = 0; i < K; ++i) {
                residual[k] = std::max(residual[k], std::fabs(f[i] - iterates[k][l][i]));
                if (k > 0) step[k] = std::max(step[k], std::fabs(iterates[k][l][i] - iterates[k - 1][l][i]));
              }
            }
          }
        }
        for (std::size_t k = 0; k < 3; ++k) {
          EXPECT_GT(residual[k], 0);
          EXPECT_NEAR(outcome.residual_max[k], residual[k], 24 * kMostRatio * unit_roundoff_v<double>) << solver << " " << p.cell << " k " << k;
          EXPECT_NEAR(outcome.step_max[k], step[k], 24 * kMostRatio * unit_roundoff_v<double>) << solver << " " << p.cell << " k " << k;
        }
        if (!limit) {
          EXPECT_LE(outcome.residual_max.back(), 8 * unit_roundoff_v<double> * 4);
        }
      }
    }
  });
}

/// All recurrent weights zero.
template <class Cell>
Workbench without_recurrence(std::int64_t seq_len, Policy policy) {
  Problem p = problem<Cell, float>(1, 3, seq_len, std::move(policy));
  Workbench bench(p, machine());
  bench.put("a", std::vector<float>(Cell::kWeights * 3));
  return bench;
}

TEST(ANewtonSolver, CountsLinearSolves) {
  for (const char* solver : kNewton) {
    for (const Policy& policy : {Policy{}, kTiny}) {
      EXPECT_EQ(without_recurrence<ElmanDiag>(20, policy).solve(solver).iterations, 0) << "the guess is the answer";
      EXPECT_EQ(without_recurrence<GruDiag>(20, policy).solve(solver).iterations, 1) << "linear in h";
      EXPECT_LE(Workbench(problem<LinearDiag<1>, float>(2, 3, 20, policy), machine()).solve(solver).iterations, 2) << "linear in h; a second where large terms cancel";
      const std::int64_t lstm = without_recurrence<LstmCifgDiag>(20, policy).solve(solver).iterations.value();
      EXPECT_GE(lstm, 2) << "h = o tanh(c) is not linear in c";
      EXPECT_LE(lstm, 3) << "a gate is exact to 1.5e-7, which near 0 may be more than the last solve has to leave";
    }
  }
}

TEST(ANewtonSolver, ConvergesOrSaysThatItDidNot) {
  AllCells::for_each([&]<class Cell>() {
    for (const char* solver : kNewton) {
      for (const double deviation : {1.0, 2.0, 4.0}) {
        for (const Policy& policy : {kTiny, Policy{{"threads", 256}, {"steps_a_thread", 4}, {"channels_a_block", 2}}}) {
          Problem p = problem<Cell, float>(1, 8, 150, policy);
          p.weight_std = deviation;
          Workbench bench(p, machine());
          const Outcome outcome = bench.solve(solver);
          ASSERT_TRUE(outcome.converged);
          if (*outcome.converged) {
            EXPECT_LE(bench.ratio_local(), kMostRatio) << solver << " " << p.cell << " " << deviation;
          }
          if (std::string_view(solver) == "newton_fused") {
            EXPECT_TRUE(*outcome.converged) << p.cell << " " << deviation;
          }
          EXPECT_FALSE(outcome.nonfinite);
        }
      }
    }
  });
}

TEST(ANewtonSolver, IsWithinTheLocalBoundWhereRoundingIsFarBelowItsTolerance) {
  // A gate that keeps the state rounds by far less than 8 u_c: passing that alone would be wrong by the bound.
  for (const auto& [cell, regime] :
       std::vector<std::array<const char*, 2>>{{"gru_diag", "long_memory"}, {"gru_diag", "corners"}, {"lstm_cifg_diag", "long_memory"}, {"lstm_cifg_diag", "saturated"}}) {
    for (const char* solver : kNewton) {
      for (const Storage storage : {Storage::f32, Storage::f64}) {
        Problem p = problem<GruDiag, float>(2, 32, 256, {{"threads", 64}, {"steps_a_thread", storage == Storage::f32 ? 4 : 2}, {"channels_a_block", 8}});
        p.cell = cell;
        p.storage = storage;
        p.regime = regime;
        Workbench bench(p, machine());
        EXPECT_EQ(bench.solve(solver).converged, true);
        EXPECT_LE(bench.ratio_local(), kMostRatio) << solver << " " << cell << " " << regime;
      }
    }
  }
}

/// One GRU channel whose gate keeps the state (z = sigmoid(-7) = 1e-3) and whose candidate is 0, at h0: true h_l = (1 - z) h_{l-1}, nearly.
/// With r ~ 0 z a_c it rounds by far less than 8 u_c. open_from: from this step on z = 1, so that h = 0 whatever came before.
Workbench keeper(float h0, float a_z, Policy policy, std::int64_t open_from) {
  const Problem p = problem<GruDiag, float>(1, 1, 8, std::move(policy));
  Workbench bench(p, machine());
  bench.put("a", std::vector<float>{a_z, 0, 0});
  bench.put("h0", std::vector<float>{h0});
  std::vector<float> u(24);
  for (std::int64_t l = 0; l < 8; ++l) u[std::size_t(l * 3)] = l < open_from ? -7.0f : 30.0f;
  bench.put("u", u);
  return bench;
}

TEST(ANewtonSolver, DoesNotTakeASmallResidualForASmallError) {
  for (const char* solver : kNewton) {
    for (const std::int64_t open_from : {8, 2}) {
      const Policy policy{{"threads", 32}, {"steps_a_thread", 4}, {"channels_a_block", 8}};
      // The guess is 0 and passes |r| <= 8 u_c, but h is 4e-7, not 0. The equation is linear: one solve.
      Workbench linear = keeper(4e-7f, 0, policy, open_from);
      EXPECT_EQ(linear.solve(solver).iterations, 1) << solver;
      EXPECT_LE(linear.ratio_local(), kMostRatio) << solver;
      // The guess fails; the first solve leaves its second order, z'' h^2 / 2 ~ 2e-7, which passes without being roundoff.
      Workbench bent = keeper(4e-3f, 10, policy, open_from);
      EXPECT_GE(bent.solve(solver).iterations, 2) << solver;
      EXPECT_LE(bent.ratio_local(), kMostRatio) << solver;
    }
  }
}

TEST(ANewtonSolver, StartsAgainWhereAnIterateOverflows) {
  // J = 1e4 at the guess: the first solve overflows from step 10 on, and a NaN kept would stay for ever.
  for (const char* solver : kNewton) {
    const Problem p = problem<ElmanDiag, float>(1, 1, 60, {{"threads", 64}, {"steps_a_thread", 4}, {"channels_a_block", 1}});
    Workbench bench(p, machine());
    bench.put("a", std::vector<float>{1e4f});
    bench.put("u", std::vector<float>(60));
    bench.put("h0", std::vector<float>{0.5f});
    EXPECT_EQ(bench.solve(solver).converged, true) << solver;
    EXPECT_LE(bench.ratio_local(), kMostRatio) << solver;
  }
}

TEST(ANewtonSolver, LeavesAFinishedChannelAlone) {
  // The same channel beside a slow one and beside one that is NaN: it stops at the same iterate, to the bit.
  AllCells::for_each([&]<class Cell>() {
    if (is_affine<Cell>) return;  // none is slow
    for (const char* solver : kNewton) {
      const Problem p = problem<Cell, float>(1, 8, 120, {{"threads", 256}, {"steps_a_thread", 4}, {"channels_a_block", 8}});
      const Layout<Cell> at = layout_of<Cell>(p);
      std::vector<float> results[2];
      std::optional<std::int64_t> iterations[2];
      for (const int nan : {0, 1}) {
        Workbench bench(p, machine());
        auto a = bench.template values<float>("a");
        for (int k = 0; k < Cell::kWeights; ++k) a[std::size_t(at.a(k, 5))] = nan ? not_a_number<float>() : 3 * (k % 2 ? -1.0f : 1.0f);
        bench.put("a", a);
        iterations[nan] = bench.solve(solver).iterations;
        results[nan] = bench.template values<float>("h");
      }
      EXPECT_GT(*iterations[0], *iterations[1]) << solver << " " << p.cell << ": one channel is slow";
      for (std::size_t i = 0; i < results[0].size(); ++i) {
        if (i % 8 != 5) {
          ASSERT_EQ(results[0][i], results[1][i]) << solver << " " << p.cell << " " << i;
        }
      }
    }
  });
}

TEST(ANewtonSolver, StopsAtItsCapAndSaysSo) {
  if (device() == std::string_view("cuda")) GTEST_SKIP() << "fused multiply-adds keep the sums below finite, and the solve converges";
  // Finite numbers whose gate argument is inf - inf: no iterate of step 0 can pass.
  const Problem p = problem<LstmCifgDiag, float>(1, 20, 6, kTiny);
  const Layout<LstmCifgDiag> at = layout_of<LstmCifgDiag>(p);
  Workbench bench(p, machine());
  auto a = bench.values<float>("a"), h0 = bench.values<float>("h0");
  a[std::size_t(at.a(0, 1))] = 3e38f;   // a_f
  a[std::size_t(at.a(3, 1))] = -3e38f;  // c_f
  for (const int i : {0, 1}) h0[std::size_t(at.edge(0, i, 1))] = 4;
  bench.put("a", a);
  bench.put("h0", h0);
  for (const char* solver : kNewton) {
    const Outcome outcome = bench.solve(solver);
    EXPECT_EQ(outcome.converged, false) << solver;
    EXPECT_EQ(outcome.iterations, std::string_view(solver) == "newton_fused" ? 4 + 1 : 256);
    EXPECT_FALSE(outcome.nonfinite) << "the iterate itself is a number";
  }
}

TEST(ANewtonSolver, KeepsAnExactPrefixWhereProductsOfJacobiansOverflow) {
  // h' = tanh(a h + u) held at 0 by u = 0 and h0 = 0: J = 40 at every step, and 40^64 is beyond f32.
  Problem p = problem<ElmanDiag, float>(1, 2, 120, {{"threads", 128}, {"steps_a_thread", 4}, {"channels_a_block", 4}});
  Workbench bench(p, machine());
  bench.put("a", std::vector<float>{40, 0.5f});
  bench.put("h0", std::vector<float>{0, 0});
  std::vector<float> u(240);
  u[100 * 2] = 0.25f;
  bench.put("u", u);
  const Outcome outcome = bench.solve("newton_fused");
  EXPECT_EQ(outcome.converged, true);
  EXPECT_LE(bench.ratio_local(), kMostRatio);
}

// ---------------------------------------------------------------------------------------------------------------------
// Shooting

/// One block, a cluster, and a whole grid.
constexpr int kTeams[] = {1, 4, 24};

Policy shooting_policy(int segments, int overlap, int channels_a_block, int blocks_a_team) {
  return {{"segments", segments}, {"overlap", overlap}, {"channels_a_block", channels_a_block}, {"blocks_a_team", blocks_a_team}};
}

TEST(Shooting, NeedsNoRoundWhereTheCellForgets) {
  AllCells::for_each([&]<class Cell>() {
    for (const int blocks : kTeams) {
      Workbench bench(problem<Cell, float>(2, 5, 300, shooting_policy(48, 60, 4, blocks)), machine());
      const Outcome outcome = bench.solve("shooting");
      EXPECT_EQ(outcome.rounds, 0) << Cell::name << " " << blocks;
      EXPECT_EQ(outcome.boundaries_failed, 0);
      EXPECT_EQ(outcome.boundaries, 10 * 47);  // 240 steps after the first overlap, 5 a segment
      EXPECT_LE(bench.ratio_local(), kMostRatio);
    }
  });
}

TEST(Shooting, NeverTrustsAnOverlapThatIsTooShort) {
  AllCells::for_each([&]<class Cell>() {
    for (const char* regime : {"long_memory", "corners", "expansive"}) {
      const auto expect_right = [&](int segments, int channels, int blocks) {
        Problem p = problem<Cell, float>(1, 9, 150, shooting_policy(segments, 0, channels, blocks));
        p.regime = regime;
        Workbench bench(p, machine());
        const Outcome outcome = bench.solve("shooting");
        const std::string where = std::string(Cell::name) + " " + regime + " segments " + std::to_string(segments) + " blocks " + std::to_string(blocks);
        EXPECT_EQ(outcome.converged, true) << where;
        EXPECT_GT(*outcome.rounds, 0) << where;
        EXPECT_LE(*outcome.rounds, 30) << where << ": the exact prefix grows by a segment a round";
        EXPECT_GT(*outcome.boundaries_failed, 0) << where;
        EXPECT_LE(*outcome.boundaries_failed, *outcome.boundaries) << where;
        EXPECT_LE(bench.ratio_local(), kMostRatio) << where;
        EXPECT_LE((forward_ratio<Cell, float>(bench)), kMostRatio) << where;
        const auto h = bench.bytes("h");
        bench.solve("shooting");
        EXPECT_EQ(bench.bytes("h"), h) << where << ": the same bits on every run";
      };
      for (const int blocks : kTeams) expect_right(30, 4, blocks);
      expect_right(2, 32, 2);  // no boundary but that between two blocks
    }
  });
}

TEST(Shooting, CorrectsByNewtonAndNotByWaiting) {
  // Nothing is forgotten in 150 steps: passing ends along alone would take a round a segment.
  Problem p = problem<GruDiag, float>(1, 8, 150, shooting_policy(30, 0, 8, 1));
  p.regime = "long_memory";
  Workbench bench(p, machine());
  const Outcome outcome = bench.solve("shooting");
  EXPECT_EQ(outcome.boundaries_failed, 8 * 29);
  EXPECT_LE(*outcome.rounds, 8);
  EXPECT_LE(bench.ratio_local(), kMostRatio);
}

TEST(Shooting, LeavesTheBitsOfAChannelThatPassesAlone) {
  AllStorages::for_each([&]<class T>() {
    for (const int blocks : {1, 2}) {
      const Problem p = problem<GruDiag, T>(1, 8, 200, shooting_policy(6, 120, 8, blocks));
      const Layout<GruDiag> at = layout_of<GruDiag>(p);
      Workbench clean(p, machine()), dirty(p, machine());
      ASSERT_EQ(clean.solve("shooting").rounds, 0);
      auto u = dirty.values<T>("u");
      for (std::int64_t l = 0; l < 200; ++l) u[std::size_t(at.u(0, l, 0, 3))] = to_storage<T>(compute_t<T>(-7));  // channel 3 forgets nothing
      dirty.put("u", u);
      dirty.put("h0", std::vector<compute_t<T>>(8, compute_t<T>(0.5)));
      clean.put("h0", std::vector<compute_t<T>>(8, compute_t<T>(0.5)));
      clean.solve("shooting");
      const Outcome outcome = dirty.solve("shooting");
      EXPECT_GT(*outcome.rounds, 0);
      EXPECT_EQ(outcome.boundaries_failed, 5);
      EXPECT_LE(dirty.ratio_local(), kMostRatio);
      for (std::int64_t d = 0; d < 8; ++d) {
        if (d != 3) {
          EXPECT_EQ(dirty.channel("h", 0, d), clean.channel("h", 0, d)) << d;
        }
      }
    }
  });
}

// ---------------------------------------------------------------------------------------------------------------------
// Gates as the device computes them: one step without recurrence makes a cell's state its gate

/// Largest |device - truth| over every `stride`-th float. A step of `Cell` from state 0 with weights 0 whose last inputs are `other` has the gate of
/// input 0 as its state.
template <class Cell>
double worst_gate_error(std::string_view gates, float other, double (*truth)(double), std::uint64_t stride) {
  constexpr std::uint64_t kPatterns = std::uint64_t(1) << 32, kChunk = std::uint64_t(1) << 24;
  const std::uint64_t count = (kPatterns + stride - 1) / stride;
  double worst = 0;
  std::vector<float> u;
  for (std::uint64_t begin = 0; begin < count; begin += kChunk) {
    const std::int64_t hidden = std::int64_t(std::min(kChunk, count - begin));
    Problem p = problem<Cell, float>(1, hidden, 1);
    p.h0 = "zero";
    p.gates = gates;
    Workbench bench(p, machine());
    u.assign(std::size_t(hidden * Cell::kInputs), other);
#pragma omp parallel for
    for (std::int64_t d = 0; d < hidden; ++d) u[std::size_t(d)] = detail::bits_float(std::uint32_t((begin + std::uint64_t(d)) * stride));
    bench.put("a", std::vector<float>(std::size_t(hidden * Cell::kWeights)));
    bench.put("u", u);
    bench.solve("seq_fused");
    const auto h = bench.values<float>("h");
#pragma omp parallel for reduction(max : worst)
    for (std::int64_t d = 0; d < hidden; ++d) {
      const float x = u[std::size_t(d)];
      if (!std::isfinite(x)) continue;
      const double error = std::fabs(double(h[std::size_t(d)]) - truth(double(x)));
      worst = std::max(worst, std::isnan(error) ? INFINITY : error);
    }
  }
  return worst;
}

TEST(Gates, AreWithinTheirStatedErrorOfTheTruth) {
  // All floats take minutes (ctest gpu.gates, label full). Odd strides: every exponent and many fractions come up.
  const std::uint64_t stride = std::getenv("PRNN_TEST_ALL_FLOATS") ? 1 : std::string_view(device()) == "cuda" ? 257 : 65521;
  for (const char* gates : {"exact", "approx"}) {
    // h = tanh(u), and h = z tanh(20) = z
    const double tanh_error = worst_gate_error<ElmanDiag>(
        gates, 0, [](double x) { return std::tanh(x); }, stride);
    const double sigmoid_error = worst_gate_error<GruDiag>(
        gates, 20, [](double x) { return 1 / (1 + std::exp(-x)); }, stride);
    const double stated = gate_error(Storage::f32, gates);
    EXPECT_LE(tanh_error, stated) << gates;
    EXPECT_LE(sigmoid_error, stated) << gates;
    EXPECT_GT(tanh_error, 0) << gates;
    EXPECT_GT(sigmoid_error, 0) << gates;
    std::printf("gates %s on %s, every %llu-th float: largest error of tanh %.3e, of sigmoid %.3e\n", gates, device(), static_cast<unsigned long long>(stride), tanh_error,
                sigmoid_error);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Approximate gates

TEST(ApproximateGates, AreUsedWhereTheyAreAskedForAndDeclinedElsewhere) {
  for_each_compiled([&]<class Cell, class T>() {
    Problem exact = problem<Cell, T>(1, 8, 90, {{"segments", 3}, {"overlap", 2}}), approx = exact;
    approx.gates = "approx";
    for (const char* solver : kSolvers) {
      const std::string reason = find_solver(solver, device(), approx)->why_not(approx);
      const bool has = std::string_view(solver) == "seq_fused" || std::string_view(solver) == "shooting";
      const char* of_cell = has_approximate_gates<Cell> ? nullptr : Cell::name;
      EXPECT_EQ(reason, exact.storage == Storage::f64 ? "double has no approximate gates"
                        : has && !of_cell             ? ""
                                                      : std::string(of_cell ? of_cell : solver) + " has exact gates alone");
      if (!reason.empty()) continue;
      Workbench one(exact, machine()), other(approx, machine());
      one.solve(solver);
      const Outcome outcome = other.solve(solver);
      EXPECT_LE(other.ratio_local(), kMostRatio) << solver;
      EXPECT_LT(other.ratio_local(), one.ratio_local() + 1) << solver << ": the bound has the gates' stated error";
      if (sizeof(T) == 4) {
        EXPECT_NE(one.bytes("h"), other.bytes("h")) << solver << " " << Cell::name;
      }
      EXPECT_FALSE(outcome.nonfinite);
    }
  });
}

// ---------------------------------------------------------------------------------------------------------------------
// Numbers that are not finite

struct Injection {
  const char* tensor;
  std::int64_t l;  // of u
  int k;
  float value;
};

TEST(EveryDeviceSolver, ConfinesANonFiniteNumberToItsChannel) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  constexpr std::int64_t kLength = 19, kHidden = 9, kBatch = 2;
  constexpr std::int64_t kBadB = 1, kBadD = 6;
  AllCells::for_each([&]<class Cell>() {
    const int last_input = Cell::kInputs - 1, last_state = Cell::kState - 1;
    for (const char* solver : kSolvers) {
      for (const Policy& policy : {kTiny, Policy{{"threads", 64}, {"steps_a_thread", 4}, {"channels_a_block", 8}}}) {
        for (const std::optional<int> limit : {std::optional<int>{}, std::optional<int>{2}}) {
          if (limit && !std::string_view(solver).starts_with("newton")) continue;
          Problem p = problem<Cell, float>(kBatch, kHidden, kLength, policy);
          p.iteration_limit = limit;
          const Layout<Cell> at = layout_of<Cell>(p);
          Workbench clean(p, machine());
          // Its neighbours stop iterating before this channel does: their bits must not show it.
          auto weights = clean.template values<float>("a");
          for (int k = 0; k < Cell::kWeights; ++k) weights[std::size_t(at.a(k, kBadD))] *= 8;
          clean.put("a", weights);
          clean.solve(solver);
          const auto expected = clean.template values<float>("h");
          for (const Injection& injection :
               {Injection{"u", 7, last_input, nan}, Injection{"u", 0, 0, inf}, Injection{"u", kLength - 1, 0, -inf}, Injection{"h0", 0, last_state, inf}}) {
            Workbench bench(p, machine());
            auto values = bench.template values<float>(injection.tensor);
            const bool input = std::string_view(injection.tensor) == "u";
            values[std::size_t(input ? at.u(kBadB, injection.l, injection.k, kBadD) : at.edge(kBadB, injection.k, kBadD))] = injection.value;
            bench.put(injection.tensor, values);
            bench.put("a", weights);
            const Outcome outcome = bench.solve(solver);
            const std::string where = std::string(solver) + " " + p.cell + " " + injection.tensor + " l " + std::to_string(injection.l) + (limit ? " fixed" : "");
            EXPECT_EQ(outcome.nonfinite, (std::array<std::int64_t, 3>{kBadB, injection.l, kBadD})) << where;
            if (!limit && std::string_view(solver).starts_with("newton")) {
              EXPECT_EQ(outcome.converged, true) << where;
            }
            const auto h = bench.template values<float>("h"), last = bench.template values<float>("last");
            for (std::int64_t b = 0; b < kBatch; ++b) {
              for (std::int64_t l = 0; l < kLength; ++l) {
                for (int i = 0; i < Cell::kState; ++i) {
                  for (std::int64_t d = 0; d < kHidden; ++d) {
                    const std::size_t at_h = std::size_t(at.h(b, l, i, d));
                    if (b != kBadB || d != kBadD) {
                      ASSERT_EQ(h[at_h], expected[at_h]) << where << ": another channel changed, l " << l << " d " << d;
                    } else {
                      ASSERT_EQ(std::isnan(h[at_h]), l >= injection.l) << where << ", l " << l;
                    }
                  }
                }
              }
            }
            for (int i = 0; i < Cell::kState; ++i) EXPECT_TRUE(std::isnan(last[std::size_t(at.edge(kBadB, i, kBadD))])) << where;
          }
        }
      }
    }
  });
}

TEST(EveryDeviceSolver, ReportsTheFirstOfSeveralPlacesAndWeightsThatAreNotFinite) {
  const auto expect_first = []<class T>(const char* solver) {
    Problem p = problem<GruDiag, T>(2, 40, 12, kTiny);
    if (sizeof(T) == 2) p.policy["steps_a_thread"] = 2;  // those that are compiled with the program
    const Layout<GruDiag> at = layout_of<GruDiag>(p);
    Workbench bench(p, machine());
    auto u = bench.template values<T>("u");
    for (const auto& [b, l, d] : std::vector<std::array<std::int64_t, 3>>{{0, 9, 1}, {0, 5, 39}, {0, 6, 38}, {0, 5, 21}, {1, 0, 3}, {0, 11, 21}}) {
      u[std::size_t(at.u(b, l, 1, d))] = to_storage<T>(std::numeric_limits<float>::quiet_NaN());
    }
    bench.put("u", u);
    EXPECT_EQ(bench.solve(solver).nonfinite, (std::array<std::int64_t, 3>{0, 5, 21})) << solver;
    auto a = bench.template values<T>("a");
    a[std::size_t(at.a(2, 33))] = to_storage<T>(std::numeric_limits<float>::infinity());
    bench.put("a", a);
    EXPECT_EQ(bench.solve(solver).nonfinite, (std::array<std::int64_t, 3>{0, 0, 33})) << solver;
  };
  for (const char* solver : kSolvers) {
    expect_first.operator()<float>(solver);
    expect_first.operator()<Bf16>(solver);  // two channels a thread
  }
}

TEST(ANewtonSolverAtAFixedCount, ReportsAnIterateThatOverflows) {
  // The scan runs products of J = 40 over 60 steps from a residual that is not small.
  for (const char* solver : kNewton) {
    Problem p = problem<ElmanDiag, float>(1, 3, 60, {{"threads", 64}, {"steps_a_thread", 4}, {"channels_a_block", 4}});
    p.iteration_limit = 1;
    Workbench bench(p, machine());
    bench.put("a", std::vector<float>{0.5f, 1e4f, 0.5f});
    bench.put("u", std::vector<float>(180));
    bench.put("h0", std::vector<float>{0.5f, 0.5f, 0.5f});
    const Outcome outcome = bench.solve(solver);
    ASSERT_TRUE(outcome.nonfinite) << solver;
    EXPECT_EQ((*outcome.nonfinite)[2], 1);
    const auto h = bench.values<float>("h");
    const std::int64_t first = (*outcome.nonfinite)[1];
    for (std::int64_t l = 0; l < 60; ++l) {
      EXPECT_EQ(std::isnan(h[std::size_t(l * 3 + 1)]), l >= first) << solver << " " << l;
      EXPECT_TRUE(std::isfinite(h[std::size_t(l * 3)]));
    }
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// What a solver says about itself

TEST(EveryDeviceSolver, DeclaresItsLaunchesAndWhereItIsUndefined) {
  Problem p = problem<GruDiag, float>(1, 5, 21);
  const auto run = [&](const char* solver) { return find_solver(solver, device(), p)->prepare(p, machine()); };
  for (const char* solver : kSolvers) {
    const Solver* found = find_solver(solver, device(), p);
    ASSERT_TRUE(found) << solver;
    const bool newton = std::string_view(solver).starts_with("newton");
    EXPECT_EQ(found->iterates, newton);
    EXPECT_EQ(found->deterministic, std::string_view(solver) != "newton_unfused");
    EXPECT_EQ(found->why_not(p), "");
    Problem fixed = p;
    fixed.iteration_limit = 3;
    EXPECT_EQ(found->why_not(fixed), newton ? "" : std::string(solver) + " has no iterations to limit");
  }
  EXPECT_EQ(run("seq_stepwise")->launches(), 21);
  EXPECT_EQ(run("seq_graph")->launches(), 21);
  EXPECT_EQ(run("seq_fused")->launches(), 1);
  EXPECT_EQ(run("newton_fused")->launches(), 1);
  EXPECT_TRUE(run("seq_stepwise")->capturable());
  EXPECT_FALSE(run("seq_graph")->capturable());
  EXPECT_FALSE(run("newton_unfused")->capturable());
  EXPECT_EQ(run("seq_fused")->policy(), (Policy{{"threads", 32}, {"tiles", 0}, {"prefetch", 24}}));
  EXPECT_EQ(run("shooting")->launches(), 1);
  EXPECT_TRUE(run("shooting")->capturable());
  p.policy = kTiny;
  EXPECT_EQ(run("newton_fused")->policy(), (Policy{{"threads", 32}, {"steps_a_thread", 1}, {"channels_a_block", 8}}));
  EXPECT_EQ(run("shooting")->policy(), (Policy{{"segments", 11}, {"overlap", 2}, {"channels_a_block", 8}, {"blocks_a_team", 2}, {"prefetch", 24}}));
  for (const auto& [key, value] : Policy{{"segments", 0}, {"overlap", -1}, {"channels_a_block", 12}, {"blocks_a_team", 0}}) {
    Problem bad = p;
    bad.policy = {{key, value}};
    EXPECT_NE(find_solver("shooting", device(), bad)->why_not(bad), "") << key;
  }
  p.policy = {{"prefetch", 4}};
  EXPECT_EQ(find_solver("seq_fused", device(), p)->why_not(p), "policy prefetch = 4: must be a multiple of 8 from 8 to 64");
  p.policy = {{"tiles", 2}};
  EXPECT_EQ(find_solver("seq_fused", device(), p)->why_not(p), "policy tiles = 2: must be 0 or 1");
  p.policy = {{"tiles", 1}};
  EXPECT_EQ(find_solver("seq_fused", device(), p)->why_not(p), "policy tiles = 1: f32 alone, hidden a multiple of threads = 128");
  p.policy = {{"threads", 48}};
  for (const char* solver : {"seq_stepwise", "seq_graph", "seq_fused", "newton_fused"}) EXPECT_NE(find_solver(solver, device(), p)->why_not(p), "") << solver;
  p.policy = {};
  p.iteration_limit = 3;
  EXPECT_TRUE(run("newton_unfused")->capturable());
  EXPECT_EQ(run("newton_unfused")->launches(), 2 + 3 * (std::string_view(device()) == "cuda" ? 4 : 3));  // CUB's scan is two launches
}

TEST(EveryDeviceSolver, ServesSeveralSetsOfTensorsAlternately) {
  const Problem p = problem<GruDiag, float>(2, 5, 21);
  Problem other = p;
  other.seed = 2;
  for (const char* solver : kSolvers) {
    Workbench first(p, machine()), second(other, machine());
    const auto run = find_solver(solver, device(), p)->prepare(p, machine());
    for (int turn = 0; turn < 2; ++turn) {
      for (Workbench* bench : {&first, &second}) {
        bench->poison_outputs();
        run->launch(bench->tensors, machine().stream());
        EXPECT_LE((forward_ratio<GruDiag, float>(*bench)), kMostRatio) << solver;
      }
    }
    first.put("u", std::vector<float>(std::size_t(first.tensors.at("u").spec.elements()), std::numeric_limits<float>::quiet_NaN()));
    run->launch(first.tensors, machine().stream());
    EXPECT_TRUE(run->outcome().nonfinite) << solver;
    run->launch(second.tensors, machine().stream());
    EXPECT_FALSE(run->outcome().nonfinite) << solver << ": the status is of the last launch";
  }
}

TEST(EveryDeviceSolver, KnowsASetOfTensorsByEveryOneOfThem) {
  // Recorded graphs hold pointers: a set that differs in one tensor is another set.
  const Problem p = problem<GruDiag, float>(2, 5, 21);
  Problem other = p;
  other.seed = 2;
  for (const char* solver : kSolvers) {
    Workbench first(p, machine()), second(other, machine());
    const auto run = find_solver(solver, device(), p)->prepare(p, machine());
    const auto result = [&](prnn::Run& with, const Tensors& tensors) {
      std::vector<unsigned char> bytes;
      for (const char* name : {"h", "last"}) {
        const Tensors::Item& item = tensors.at(name);
        machine().fill(item.data, 0xff, item.spec.bytes());
      }
      with.launch(tensors, machine().stream());
      for (const char* name : {"h", "last"}) {
        const Tensors::Item& item = tensors.at(name);
        const std::size_t before = bytes.size();
        bytes.resize(before + std::size_t(item.spec.bytes()));
        machine().download(bytes.data() + before, item.data, item.spec.bytes());
      }
      return bytes;
    };
    result(*run, first.tensors);
    for (std::size_t i = 0; i < first.tensors.items.size(); ++i) {
      Tensors mixed = first.tensors;
      mixed.items[i].data = second.tensors.items[i].data;
      const auto fresh = find_solver(solver, device(), p)->prepare(p, machine());
      EXPECT_EQ(result(*run, mixed), result(*fresh, mixed)) << solver << " " << mixed.items[i].spec.name;
    }
  }
}

TEST(ANewtonSolver, TracesAfterALaunchAndLaunchesAfterATrace) {
  const Problem p = problem<GruDiag, float>(1, 5, 21);
  for (const char* solver : kNewton) {
    Workbench bench(p, machine());
    const auto run = find_solver(solver, device(), p)->prepare(p, machine());
    for (int turn = 0; turn < 2; ++turn) {
      run->launch(bench.tensors, machine().stream());
      EXPECT_TRUE(run->outcome().residual_max.empty()) << solver;
      run->trace(bench.tensors, machine().stream());
      const Outcome outcome = run->outcome();
      ASSERT_FALSE(outcome.residual_max.empty()) << solver;
      EXPECT_GT(outcome.residual_max[0], 0) << solver;
    }
  }
}

/// Counts what a solver allocates.
class CountingMachine : public HostMachine {
 public:
  std::string_view device() const override { return "emulated"; }
  void* allocate(std::int64_t bytes) override {
    allocated += bytes;
    return HostMachine::allocate(bytes);
  }
  std::int64_t allocated = 0;
};

TEST(EveryDeviceSolver, AllocatesExactlyItsDeclaredWorkspace) {
  for (const char* solver : kSolvers) {
    for (const Policy& policy : {Policy{}, kTiny}) {
      const Problem p = problem<LstmCifgDiag, float>(3, 40, 10, policy);
      CountingMachine counting;
      const Solver* found = find_solver(solver, "emulated", p);
      const auto run = found->prepare(p, counting);
      EXPECT_EQ(counting.allocated, found->workspace_bytes(p)) << solver;
      EXPECT_GT(counting.allocated, 0) << solver;
      Workbench bench(p, counting);
      const std::int64_t before = counting.allocated;
      run->launch(bench.tensors, nullptr);
      EXPECT_EQ(counting.allocated, before) << solver << " allocates in a launch";
    }
  }
}

}  // namespace
}  // namespace prnn
