// backward_testing.hpp: holds every solver of pass backward on a machine against loops and indices written here, and against itself.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/cells/bounded.hpp"
#include "kernels/ops/recurrence.hpp"
#include "kernels/ops/testing.hpp"
#include "kernels/primitives/register.hpp"

namespace prnn::testing {

inline Problem backward_problem(std::string cell, Storage storage, std::int64_t batch, std::int64_t hidden, std::int64_t seq_len, std::string grad = "all") {
  Problem p = random_start_problem(std::move(cell), storage, batch, hidden, seq_len);
  p.pass = "backward";
  p.grad = std::move(grad);
  return p;
}

/// Names of the solvers that are defined for a problem, but auto, which is one of the others.
inline std::vector<std::string> solvers_for(const Problem& p, const Machine& machine) {
  std::vector<std::string> names;
  for (const std::string& name : solver_names()) {
    const Solver* solver = find_solver(name, machine.device(), p);
    if (name != "auto" && solver && solver->why_not(p).empty()) names.push_back(name);
  }
  return names;
}

inline std::string describe(const std::string& solver, const Problem& p) {
  return solver + " " + p.cell + " " + std::string(to_string(p.storage)) + " grad " + p.grad + " B " + std::to_string(p.batch) + " D " + std::to_string(p.hidden) + " L " +
         std::to_string(p.seq_len) + (p.policy.empty() ? "" : " tiny");
}

inline constexpr const char* kGradients[] = {"du", "da", "dh0"};

/// Largest errors over bounds of finite gradients: the reverse recursion in double, channel by channel.
template <class Cell, class T>
LocalRatios plain_ratios(const Workbench& bench) {
  using C = compute_t<T>;
  using Number = Bounded<C>;
  constexpr int K = Cell::kState, W = Cell::kWeights, I = Cell::kInputs;
  const Problem& p = bench.problem;
  const bool squares = p.grad == "squares";
  const int G = p.grad == "output" ? 1 : K;
  LocalRatios worst{.h = {}, .du = 0, .da = 0, .dh0 = 0};
  const auto judge = [](std::optional<double>& most, double got, double truth, double bound) {
    const double error = std::fabs(got - truth);
    most = max_or_nan(*most, error == 0 ? 0 : error / bound);
  };
  const auto all_u = bench.values<T>("u"), all_a = bench.values<T>("a"), all_h = bench.values<T>("h"), all_grad_h = bench.values<T>(squares ? "h" : "grad_h"),
             all_du = bench.values<T>("du");
  const auto all_h0 = bench.values<C>("h0"), all_grad_last = bench.values<C>("grad_last"), all_da = bench.values<C>("da"), all_dh0 = bench.values<C>("dh0");
  /// Column d of block b of [blocks, rows, D].
  const auto column = [&](const auto& values, std::int64_t rows, std::int64_t b, std::int64_t d) {
    std::vector<double> list;
    for (std::int64_t row = 0; row < rows; ++row) list.push_back(to_compute(values[std::size_t((b * rows + row) * p.hidden + d)]));
    return list;
  };
  for (std::int64_t d = 0; d < p.hidden; ++d) {
    const auto a_list = column(all_a, W, 0, d), da = column(all_da, W, 0, d);
    double a[W];
    std::copy_n(a_list.begin(), W, a);
    long double sum[W] = {};
    double bound[W] = {};
    for (std::int64_t b = 0; b < p.batch; ++b) {
      const auto u = column(all_u, p.seq_len * I, b, d), h0 = column(all_h0, K, b, d), h = column(all_h, p.seq_len * K, b, d);
      auto grad_h = column(all_grad_h, p.seq_len * G, b, d);
      for (double& x : grad_h) x += squares ? x : 0;
      const auto grad_last = column(all_grad_last, K, b, d), du = column(all_du, p.seq_len * I, b, d), dh0 = column(all_dh0, K, b, d);
      Number g[K];
      for (int i = 0; i < K; ++i) g[i] = grad_last[std::size_t(i)];
      for (std::size_t l = std::size_t(p.seq_len); l-- > 0;) {
        double before[K], in[I];
        std::copy_n(l == 0 ? h0.begin() : h.begin() + std::ptrdiff_t(l - 1) * K, K, before);
        std::copy_n(u.begin() + std::ptrdiff_t(l) * I, I, in);
        if (G == 1) g[K - 1] = g[K - 1] + Number(grad_h[l]);
        for (int i = 0; i < K && G == K && K > 1; ++i) g[i] = g[i] + Number(grad_h[l * K + std::size_t(i)]);
        Number by_h[K], by_a[W], by_u[I];
        vjp_and_bound<Cell>(before, a, in, g, by_h, by_a, by_u);
        for (int k = 0; k < I; ++k) judge(worst.du, du[l * I + std::size_t(k)], by_u[k].value, by_u[k].error + (sizeof(T) == 2 ? storing_error<T>(by_u[k].value) : 0));
        for (int k = 0; k < W; ++k) {
          sum[k] += by_a[k].value;
          bound[k] += by_a[k].error + unit_roundoff_v<C> * std::fabs(by_a[k].value);
        }
        std::copy_n(by_h, K, g);
      }
      for (int i = 0; i < K; ++i) judge(worst.dh0, dh0[std::size_t(i)], g[i].value, g[i].error);
    }
    for (int k = 0; k < W; ++k) judge(worst.da, da[std::size_t(k)], double(sum[k]), bound[k]);
  }
  return worst;
}

/// Right, by the op's test and by plain_ratios(), which agree; the same bits again; inputs untouched.
template <class Cell, class T>
void expect_right_gradients(const Problem& p, const std::string& solver, Machine& machine) {
  const std::string where = describe(solver, p);
  Workbench bench(p, machine);
  std::vector<std::vector<unsigned char>> inputs, outputs;
  for (const auto& item : bench.tensors.items) {
    if (!item.spec.written()) inputs.push_back(bench.bytes(item.spec.name));
  }
  const Outcome outcome = bench.solve(solver);
  EXPECT_FALSE(outcome.nonfinite) << where;
  EXPECT_NE(outcome.converged, std::optional(false)) << where;
  const LocalRatios found = find_op(p.op).local_ratios(p, machine, bench.tensors), plain = plain_ratios<Cell, T>(bench);
  EXPECT_FALSE(found.h) << where;
  EXPECT_LE(found.worst(), kMostRatio) << where;
  // Both are in double, whose own error is so much of the bound: a GPU contracts multiply-adds, and da are two kinds of sum.
  const double slack = 2 * gate_error_v<double> / gate_error_v<compute_t<T>>;
  EXPECT_NEAR(found.du.value(), plain.du.value(), slack) << where;
  EXPECT_NEAR(found.dh0.value(), plain.dh0.value(), slack) << where;
  EXPECT_NEAR(found.da.value(), plain.da.value(), slack) << where;
  for (const char* name : kGradients) outputs.push_back(bench.bytes(name));
  bench.solve(solver);
  std::size_t input = 0;
  for (const auto& item : bench.tensors.items) {
    if (item.spec.written()) continue;
    EXPECT_EQ(bench.bytes(item.spec.name), inputs[input++]) << where << " " << item.spec.name;
  }
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(bench.bytes(kGradients[i]), outputs[i]) << where << " " << kGradients[i];
}

/// What an infinity at one place of one input does: NaN from there on towards the start, in that channel alone, nothing else by a bit.
template <class Cell, class T>
void expect_nan_placement(Problem p, const std::string& solver, Machine& machine) {
  using C = compute_t<T>;
  constexpr int W = Cell::kWeights;
  const Layout<Cell> at = layout_of<Cell>(p);
  const std::int64_t b = p.batch - 1, d = p.hidden / 2, l = p.seq_len / 2, L = p.seq_len;
  Workbench bench(p, machine);
  bench.solve(solver);
  const auto du = bench.values<T>("du");
  const auto da = bench.values<C>("da"), dh0 = bench.values<C>("dh0");
  const bool squares = p.grad == "squares";
  const int G = p.grad == "output" ? 1 : Cell::kState;
  struct Place {
    const char* tensor;
    std::int64_t index, from;  // from: the last step whose gradients are NaN; -1: none
    bool every_batch = false;
  };
  const std::int64_t next = l + 1 < L ? l + 1 : -1;  // the step that is taken at h_l
  std::vector<Place> places = {{"u", at.u(b, l, Cell::kInputs - 1, d), l},
                               {"h", at.h(b, l, Cell::kState - 1, d), squares ? std::max(l, next) : next},
                               {"grad_last", at.edge(b, 0, d), L - 1},
                               {"h0", at.edge(b, Cell::kState - 1, d), 0},
                               {"a", at.a(W - 1, d), L - 1, true}};
  if (squares) places.push_back({"h", at.h(b, L - 1, 0, d), L - 1});  // which the loss alone reads
  else places.push_back({"grad_h", ((b * L + l) * G + G - 1) * p.hidden + d, l});
  const auto is_nan = [](auto x) { return to_compute(x) != to_compute(x); };
  for (const Place& place : places) {
    const std::string where = describe(solver, p) + " infinite " + place.tensor;
    const std::vector<unsigned char> right = bench.bytes(place.tensor);
    const auto damage = [&]<class X>(X infinity) {
      auto values = bench.values<X>(place.tensor);
      values[std::size_t(place.index)] = infinity;
      bench.put(place.tensor, values);
    };
    const bool stored = bench.tensors.at(place.tensor).spec.type == storage_of<T>;
    stored ? damage(to_storage<T>(C(INFINITY))) : damage(C(INFINITY));
    const Outcome outcome = bench.solve(solver);
    using Position = std::array<std::int64_t, 3>;
    EXPECT_EQ(outcome.nonfinite, place.from < 0 ? std::nullopt : std::optional(Position{place.every_batch ? 0 : b, place.from, d})) << where;
    EXPECT_EQ(bench.ratio_local() <= 16, true) << where << " " << bench.ratio_local();
    const auto du_now = bench.values<T>("du");
    const auto da_now = bench.values<C>("da"), dh0_now = bench.values<C>("dh0");
    const auto hit = [&](std::int64_t batch, std::int64_t channel) { return place.from >= 0 && channel == d && (place.every_batch || batch == b); };
    std::int64_t wrong = 0;
    const auto expect = [&](bool nan, auto now, auto before) { wrong += nan ? !is_nan(now) : std::memcmp(&now, &before, sizeof now) != 0; };
    for (std::int64_t bb = 0; bb < p.batch; ++bb) {
      for (std::int64_t dd = 0; dd < p.hidden; ++dd) {
        for (std::int64_t step = 0; step < L; ++step) {
          for (int k = 0; k < Cell::kInputs; ++k) {
            const std::size_t i = std::size_t(at.u(bb, step, k, dd));
            expect(hit(bb, dd) && step <= place.from, du_now[i], du[i]);
          }
        }
        for (int k = 0; k < Cell::kState; ++k) expect(hit(bb, dd), dh0_now[std::size_t(at.edge(bb, k, dd))], dh0[std::size_t(at.edge(bb, k, dd))]);
      }
    }
    for (int k = 0; k < W; ++k) {
      for (std::int64_t dd = 0; dd < p.hidden; ++dd) expect(hit(b, dd), da_now[std::size_t(at.a(k, dd))], da[std::size_t(at.a(k, dd))]);
    }
    EXPECT_EQ(wrong, 0) << where;
    machine.upload(bench.tensors.at(place.tensor).data, right.data(), std::int64_t(right.size()));
  }
}

/// Of several places the outcome names the first in the order of the pass: of the first batch entry, the last step.
template <class Cell>
void expect_first_nan(const Problem& p, const std::string& solver, Machine& machine) {
  const Layout<Cell> at = layout_of<Cell>(p);
  Workbench bench(p, machine);
  auto u = bench.values<float>("u");
  const std::int64_t last = p.seq_len * 2 / 3;  // in the middle of a sequence that is cut
  for (const std::int64_t i : {at.u(0, 1, 0, 0), at.u(0, last, 0, 2), at.u(1, p.seq_len - 1, 0, 1)}) u[std::size_t(i)] = NAN;
  bench.put("u", u);
  EXPECT_EQ(bench.solve(solver).nonfinite, (std::array<std::int64_t, 3>{0, last, 2})) << describe(solver, p);
}

/// da += : over zeros the bits of da =; else the sum, each of the two rounded once more.
template <class Cell, class T>
void expect_accumulation(Problem p, const std::string& solver, Machine& machine) {
  using C = compute_t<T>;
  Workbench bench(p, machine);
  bench.solve(solver);
  const auto da = bench.values<C>("da");
  bench.problem.accumulate_da = true;
  for (const C start : {C(0), C(3)}) {
    bench.put("da", std::vector<C>(da.size(), start));
    const std::unique_ptr<Run> run = find_solver(solver, machine.device(), bench.problem)->prepare(bench.problem, machine);
    run->launch(bench.tensors, machine.stream());
    machine.synchronise();
    const auto now = bench.values<C>("da");
    for (std::size_t i = 0; i < da.size(); ++i) {
      const double u = unit_roundoff_v<C>, sum = double(start) + double(da[i]);
      // da itself may be off by its own roundings, u each of what it is the sum of; adding rounds the result.
      EXPECT_LE(std::fabs(double(now[i]) - sum), start == 0 ? 0 : 2 * u * (std::fabs(sum) + std::fabs(double(da[i])))) << describe(solver, p) << " from " << start;
    }
  }
}

/// Steps 0 .. L-1 at once, and as two parts: dh0 of the later one is grad_last of the earlier one. The same bits, for solvers that go step by step.
template <class Cell, class T>
void expect_same_at_a_split(const std::string& grad, const std::string& solver, Machine& machine) {
  using C = compute_t<T>;
  const std::int64_t D = 5, L = 21, cut = 13;
  const Problem whole = backward_problem(Cell::name, storage_of<T>, 1, D, L, grad);
  const Layout<Cell> at = layout_of<Cell>(whole);
  Workbench all(whole, machine), head(backward_problem(Cell::name, storage_of<T>, 1, D, cut, grad), machine),
      tail(backward_problem(Cell::name, storage_of<T>, 1, D, L - cut, grad), machine);
  all.solve(solver);
  const auto share = [&](const char* name, std::int64_t row) {  // [L, row, D] of one batch entry
    const auto values = all.values<T>(name);
    head.put(name, std::vector<T>(values.begin(), values.begin() + cut * row * D));
    tail.put(name, std::vector<T>(values.begin() + cut * row * D, values.end()));
  };
  share("u", Cell::kInputs);
  share("h", Cell::kState);
  if (const int G = grad_components(whole, Cell::kState); G > 0) share("grad_h", G);
  const auto h = all.values<T>("h");
  std::vector<C> at_cut;
  for (std::int64_t i = 0; i < Cell::kState * D; ++i) at_cut.push_back(to_compute(h[std::size_t(at.h(0, cut - 1, 0, 0) + i)]));
  for (Workbench* part : {&head, &tail}) part->put("a", all.values<T>("a"));
  head.put("h0", all.values<C>("h0"));
  tail.put("h0", at_cut);
  tail.put("grad_last", all.values<C>("grad_last"));
  tail.solve(solver);
  head.put("grad_last", tail.values<C>("dh0"));
  head.solve(solver);
  EXPECT_EQ(head.bytes("dh0"), all.bytes("dh0")) << describe(solver, whole);
  std::vector<unsigned char> du = head.bytes("du"), later = tail.bytes("du");
  du.insert(du.end(), later.begin(), later.end());
  EXPECT_EQ(du, all.bytes("du")) << describe(solver, whole);
}

/// The loss |h|^2 inside gives the bits of grad_h = 2 h from outside, which every storage type has.
template <class Cell, class T>
void expect_squares_as_given(Problem p, const std::string& solver, Machine& machine) {
  p.grad = "squares";
  Workbench inside(p, machine);
  p.grad = "all";
  Workbench given(p, machine);
  std::vector<T> twice = inside.values<T>("h");
  for (T& x : twice) x = to_storage<T>(to_compute(x) + to_compute(x));
  given.put("grad_h", twice);
  inside.solve(solver);
  given.solve(solver);
  for (const char* name : kGradients) EXPECT_EQ(inside.bytes(name), given.bytes(name)) << describe(solver, p) << " " << name;
}

/// Pass both: the bits of the forward solver, then those of the backward one on the h that it stored.
inline void expect_both_as_its_parts(Problem p, const std::string& solver, const std::string& backward_solver, Machine& machine) {
  p.pass = "both";
  const std::string where = describe(solver, p) + " both";
  Workbench both(p, machine);
  ASSERT_TRUE(find_solver(solver, machine.device(), p)) << where;
  both.solve(solver);
  EXPECT_LE(both.ratio_local(), 16) << where;
  EXPECT_TRUE(find_op(p.op).local_ratios(p, machine, both.tensors).h) << where;
  Problem part = p;  // what seq_graph has no backward pass for, seq_stepwise does
  part.pass = "forward";
  part.grad = "all";
  Workbench forward(part, machine);
  forward.solve(solver);
  part.pass = "backward";
  part.grad = p.grad;
  Workbench backward(part, machine);
  const std::vector<unsigned char> h = forward.bytes("h");
  machine.upload(backward.tensors.at("h").data, h.data(), std::int64_t(h.size()));
  backward.solve(backward_solver);
  for (const char* name : {"h", "last"}) EXPECT_EQ(both.bytes(name), forward.bytes(name)) << where << " " << name;
  for (const char* name : kGradients) EXPECT_EQ(both.bytes(name), backward.bytes(name)) << where << " " << name;
}

}  // namespace prnn::testing
