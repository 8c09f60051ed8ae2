// cell_check.cpp: a program that tells what is wrong with a user's cell (run --cell), in a process of its own, for a step may fault. Compiled by harness/cell_compiler.cpp alone.
//   stdout: "name NAME" where nothing is; else exit code 1 and "rule: what; what was expected", or exit code 2 and where jacobian() is not the step's
#include <algorithm>
#include <cmath>
#include <iostream>
#include <limits>
#include <random>
#include <sstream>
#include <string>

#include "kernels/cells/bounded.hpp"
#include "kernels/cells/rules.hpp"
#include "reference/thresholds.hpp"

#include PRNN_CELL_HEADER

namespace prnn {
namespace {

using Cell = PRNN_CELL;
constexpr int K = Cell::kState, W = Cell::kWeights, I = Cell::kInputs;

/// The number that counts the gates of a step.
struct Counted {
  static inline int gates = 0;
  Counted(double = 0) {}
};
Counted operator+(Counted, Counted) { return {}; }
Counted operator-(Counted, Counted) { return {}; }
Counted operator*(Counted, Counted) { return {}; }
Counted operator-(Counted) { return {}; }
Counted sigmoid(Counted) { return ++Counted::gates, Counted(); }
Counted tanh_gate(Counted) { return ++Counted::gates, Counted(); }

int gate_calls() {
  Counted h[K], a[W], u[I], next[K];
  Cell::step(h, a, u, next);
  return Counted::gates;
}

/// A point (h, a, u) that is exact in float and no solution of anything.
struct Point {
  double h[K], a[W], u[I];

  explicit Point(std::mt19937& random) {
    const auto draw = [&](auto& values, double most) {
      for (double& x : values) x = double(float(most * (2.0 * double(random()) / 4294967296.0 - 1)));
    };
    draw(h, 1), draw(a, 2), draw(u, 3);
  }
};

template <class T, std::size_t N>
void copy(const double (&from)[N], T (&to)[N]) {
  for (std::size_t i = 0; i < N; ++i) to[i] = T(from[i]);
}

/// guard_inputs() and guard_start() show what is not finite through input 0 and the state: the first component that does not show it.
int unreached() {
  std::mt19937 random(1);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const bool by_input : {true, false}) {
    Point p(random);
    if (by_input) p.u[0] = nan;
    else std::fill_n(p.h, K, nan);
    double next[K];
    Cell::step(p.h, p.a, p.u, next);
    for (int i = 0; i < K; ++i) {
      if (next[i] == next[i]) return i;
    }
  }
  return -1;
}

/// The hand-written (f, J) in T at random points, held against the derived one with its running bound (bounded.hpp).
template <class Cell, class T>
std::string wrong_jacobian() {
  if constexpr (HasOwnJacobian<Cell, T>) {
    using Number = Bounded<T>;
    constexpr int kPoints = 1000;
    std::mt19937 random(2);
    for (int n = 0; n < kPoints; ++n) {
      const Point p(random);
      Number h[K], a[W], u[I], f[K], jacobian[K][K];
      copy(p.h, h), copy(p.a, a), copy(p.u, u);
      derived_jacobian<Cell>(h, a, u, f, jacobian);
      T own_h[K], own_a[W], own_u[I], own_f[K], own[K][K];
      copy(p.h, own_h), copy(p.a, own_a), copy(p.u, own_u);
      std::fill_n(&own[0][0], K * K, not_a_number<T>());  // an entry that is not written is wrong too
      std::fill_n(own_f, K, not_a_number<T>());
      Cell::jacobian(own_h, own_a, own_u, own_f, own);
      const auto differs = [](T x, const Number& truth) { return !(std::fabs(double(x) - truth.value) <= kErrorFactor * truth.error); };
      for (int i = 0; i < K; ++i) {
        for (int j = -1; j < K; ++j) {
          const T x = j < 0 ? own_f[i] : own[i][j];
          const Number& truth = j < 0 ? f[i] : jacobian[i][j];
          if (!differs(x, truth)) continue;
          std::ostringstream text;
          text << "jacobian() of " << Cell::name << " in " << (sizeof(T) == 4 ? "float" : "double") << " gives " << (j < 0 ? "f" : "J") << "[" << i << "]";
          if (j >= 0) text << "[" << j << "]";
          text << " = " << x << "; expected " << truth.value << ", as step() has it, at";
          const auto say = [&](const char* name, const double* values, int count) {
            text << " " << name << " = (";
            for (int k = 0; k < count; ++k) text << (k ? ", " : "") << values[k];
            text << ")";
          };
          say("h", p.h, K), say("a", p.a, W), say("u", p.u, I);
          return text.str();
        }
      }
    }
  }
  return "";
}

/// Of the rules those that no compiler checks.
std::string broken_rule() {
  const std::string name = Cell::name;
  const auto fits = [](unsigned char c) { return std::isalnum(c) || c == '_'; };
  if (name.empty() || name.size() > 64 || !std::all_of(name.begin(), name.end(), fits)) return "name '" + name + "' does not fit; expected at most 64 letters, digits and _";
  if (const int calls = gate_calls(); calls != Cell::kGates)
    return "kGates is " + std::to_string(Cell::kGates) + "; expected " + std::to_string(calls) + ", the calls of sigmoid() and tanh_gate() in step()";
  if (const int component = unreached(); component >= 0)
    return "h_next[" + std::to_string(component) + "] does not depend on u[0], or not on h; expected each component to, so that a NaN cannot vanish";
  return "";
}

}  // namespace
}  // namespace prnn

int main() {
  if (const std::string rule = prnn::broken_rule(); !rule.empty()) return std::cout << "rule: " << rule << std::endl, 1;
  for (const std::string& wrong : {prnn::wrong_jacobian<prnn::Cell, float>(), prnn::wrong_jacobian<prnn::Cell, double>()}) {
    if (!wrong.empty()) return std::cout << wrong << std::endl, 2;
  }
  std::cout << "name " << prnn::Cell::name << std::endl;
}
