// graph.hpp: a cell's step as a graph of operations that is drawn once, when the program is compiled, and its derivatives backwards along it. What a step
// has to remember for them is the few values that a person would keep; each is a register of its own, as every index is part of a type.
#pragma once

#include <utility>

#include "kernels/cells/cell.hpp"
#include "kernels/fault.hpp"

namespace prnn {

enum class Operation { variable, constant, add, subtract, multiply, negate, sigmoid, tanh };

/// x, y: the nodes that it works on; -1: none.
struct Node {
  Operation operation = Operation::variable;
  int x = -1, y = -1;
  double constant = 0;
};

/// Nodes in the order in which they are computed; the first are h [kState], a [kWeights] and u [kInputs].
template <class Cell>
struct StepGraph {
  static constexpr int kMostNodes = 64;
  Node nodes[kMostNodes];
  int count = 0;
  int results[Cell::kState] = {};  // h_next

  PRNN_HD constexpr int add(const Node& node) {
    nodes[count] = node;  // beyond the last one this is no constant, and does not compile
    return count++;
  }
};

/// The number that a step is called with to draw its graph; a plain number is drawn where it is used.
template <class Cell>
struct Drawn {
  int node = -1;
  StepGraph<Cell>* graph = nullptr;
  double constant = 0;

  constexpr Drawn() = default;
  PRNN_HD constexpr Drawn(double constant) : constant(constant) {}
  PRNN_HD constexpr Drawn(int node, StepGraph<Cell>* graph) : node(node), graph(graph) {}
};
namespace detail {
template <class Cell>
PRNN_HD constexpr int node_of(const Drawn<Cell>& x, StepGraph<Cell>* graph) {
  return x.graph ? x.node : graph->add({.operation = Operation::constant, .constant = x.constant});
}
template <class Cell>
PRNN_HD constexpr Drawn<Cell> draw(Operation operation, const Drawn<Cell>& x, const Drawn<Cell>& y) {
  StepGraph<Cell>* const graph = x.graph ? x.graph : y.graph;
  const int first = node_of(x, graph), second = node_of(y, graph);
  return {graph->add({operation, first, second}), graph};
}
template <class Cell>
PRNN_HD constexpr Drawn<Cell> draw(Operation operation, const Drawn<Cell>& x) {
  return {x.graph->add({operation, x.node}), x.graph};
}
}  // namespace detail
template <class Cell>
PRNN_HD constexpr Drawn<Cell> operator+(const Drawn<Cell>& x, const Drawn<Cell>& y) {
  return detail::draw(Operation::add, x, y);
}
template <class Cell>
PRNN_HD constexpr Drawn<Cell> operator-(const Drawn<Cell>& x, const Drawn<Cell>& y) {
  return detail::draw(Operation::subtract, x, y);
}
template <class Cell>
PRNN_HD constexpr Drawn<Cell> operator*(const Drawn<Cell>& x, const Drawn<Cell>& y) {
  return detail::draw(Operation::multiply, x, y);
}
template <class Cell>
PRNN_HD constexpr Drawn<Cell> operator-(const Drawn<Cell>& x) {
  return detail::draw(Operation::negate, x);
}
template <class Cell>
PRNN_HD constexpr Drawn<Cell> sigmoid(const Drawn<Cell>& x) {
  return detail::draw(Operation::sigmoid, x);
}
template <class Cell>
PRNN_HD constexpr Drawn<Cell> tanh_gate(const Drawn<Cell>& x) {
  return detail::draw(Operation::tanh, x);
}

namespace detail {
template <class Cell>
constexpr StepGraph<Cell> drawn_step() {
  StepGraph<Cell> graph;
  Drawn<Cell> h[Cell::kState], a[Cell::kWeights], u[Cell::kInputs], next[Cell::kState];
  for (auto& x : h) x = {graph.add({}), &graph};
  for (auto& x : a) x = {graph.add({}), &graph};
  for (auto& x : u) x = {graph.add({}), &graph};
  Cell::step(h, a, u, next);
  for (int j = 0; j < Cell::kState; ++j) graph.results[j] = node_of(next[j], &graph);
  return graph;
}
}  // namespace detail
template <class Cell>
inline constexpr StepGraph<Cell> kStepGraph = detail::drawn_step<Cell>();

/// What every node of a step came to.
template <class Cell, class T>
struct StepValues {
  T of[kStepGraph<Cell>.count];
};

namespace detail {
/// f.template operator()<i>() for i = first, first + direction, .., `count` of them.
template <int first, int direction, int... i, class F>
PRNN_HD constexpr void for_each_index(std::integer_sequence<int, i...>, F&& f) {
  (f.template operator()<first + direction * i>(), ...);
}
template <int count, class F>
PRNN_HD constexpr void forwards(F&& f) {
  for_each_index<0, 1>(std::make_integer_sequence<int, count>(), f);
}
template <int count, class F>
PRNN_HD constexpr void backwards(F&& f) {
  for_each_index<count - 1, -1>(std::make_integer_sequence<int, count>(), f);
}

/// The number type of a cell's gates.
template <class Cell, class T>
struct GateNumber {
  using type = T;
};
template <class Cell, class T>
  requires requires { typename Cell::Gate; }
struct GateNumber<Cell, T> {
  using type = typename Cell::Gate;
};

/// Which nodes the results in the bit set kResults depend on, and where a node's adjoint comes from first: all others add to it.
template <class Cell, unsigned kResults>
struct Reach {
  static constexpr int kCount = kStepGraph<Cell>.count, kSeed = 2 * kCount;
  bool reached[kCount] = {};
  int first[kCount] = {};  // 2 x node + side of an operation; kSeed + j: result j

  constexpr void add(int node, int from) {
    if (!reached[node]) first[node] = from;
    reached[node] = true;
  }
  static constexpr Reach found() {
    Reach all;
    for (int j = 0; j < Cell::kState; ++j) {
      if (kResults >> j & 1) all.add(kStepGraph<Cell>.results[j], kSeed + j);
    }
    for (int i = kCount - 1; i >= 0; --i) {
      const Node& node = kStepGraph<Cell>.nodes[i];
      if (all.reached[i] && node.x >= 0) all.add(node.x, 2 * i);
      if (all.reached[i] && node.y >= 0) all.add(node.y, 2 * i + 1);
    }
    return all;
  }
};
template <class Cell, unsigned kResults>
inline constexpr Reach<Cell, kResults> kReach = Reach<Cell, kResults>::found();

/// seed [kState], derivatives of some number by the results in kResults, -> its derivatives by every node that they depend on.
template <class Cell, unsigned kResults, class T>
PRNN_HD inline void go_back(const StepValues<Cell, T>& values, const T (&seed)[Cell::kState], T (&adjoint)[kStepGraph<Cell>.count]) {
  constexpr int kCount = kStepGraph<Cell>.count;
  const auto bring = [&]<int to, int from>(const T& x) {
    if constexpr (kReach<Cell, kResults>.first[to] == from) adjoint[to] = x;
    else adjoint[to] = adjoint[to] + x;
  };
  forwards<Cell::kState>([&]<int j>() {
    if constexpr (kResults >> j & 1) bring.template operator()<kStepGraph<Cell>.results[j], 2 * kCount + j>(seed[j]);
  });
  backwards<kCount>([&]<int i>() {
    constexpr Node node = kStepGraph<Cell>.nodes[i];
    if constexpr (kReach<Cell, kResults>.reached[i] && node.x >= 0) {
      const T &g = adjoint[i], &value = values.of[i];
      if constexpr (node.operation == Operation::add) {
        bring.template operator()<node.x, 2 * i>(g);
        bring.template operator()<node.y, 2 * i + 1>(g);
      } else if constexpr (node.operation == Operation::subtract) {
        bring.template operator()<node.x, 2 * i>(g);
        bring.template operator()<node.y, 2 * i + 1>(PRNN_FAULT(5, T(-g), g));
      } else if constexpr (node.operation == Operation::multiply) {
        bring.template operator()<node.x, 2 * i>(T(g * values.of[node.y]));
        bring.template operator()<node.y, 2 * i + 1>(T(g * values.of[node.x]));
      } else if constexpr (node.operation == Operation::negate) {
        bring.template operator()<node.x, 2 * i>(T(-g));
      } else if constexpr (node.operation == Operation::sigmoid) {
        bring.template operator()<node.x, 2 * i>(T(g * (value - value * value)));
      } else {
        bring.template operator()<node.x, 2 * i>(T(g * (T(1) - value * value)));
      }
    }
  });
}

/// The adjoints of variables `first` to first + n - 1; 0 of those that nothing depends on.
template <class Cell, unsigned kResults, int first, int n, class T>
PRNN_HD inline void take(const T (&adjoint)[kStepGraph<Cell>.count], T (&out)[n]) {
  forwards<n>([&]<int i>() {
    if constexpr (kReach<Cell, kResults>.reached[first + i]) out[i] = adjoint[first + i];
    else out[i] = T(0);
  });
}
}  // namespace detail

/// A step at h [kState], a [kWeights], u [kInputs], for the derivatives below.
template <class Cell, class T>
PRNN_HD inline StepValues<Cell, T> step_values(const T (&h)[Cell::kState], const T (&a)[Cell::kWeights], const T (&u)[Cell::kInputs]) {
  using Gate = typename detail::GateNumber<Cell, T>::type;
  constexpr int K = Cell::kState, W = Cell::kWeights;
  StepValues<Cell, T> all;
  auto& of = all.of;
  detail::forwards<kStepGraph<Cell>.count>([&]<int i>() {
    constexpr Node node = kStepGraph<Cell>.nodes[i];
    if constexpr (node.operation == Operation::variable) {
      if constexpr (i < K) of[i] = h[i];
      else if constexpr (i < K + W) of[i] = a[i - K];
      else of[i] = u[i - K - W];
    } else if constexpr (node.operation == Operation::constant) {
      of[i] = T(node.constant);
    } else if constexpr (node.operation == Operation::add) {
      of[i] = of[node.x] + of[node.y];
    } else if constexpr (node.operation == Operation::subtract) {
      of[i] = of[node.x] - of[node.y];
    } else if constexpr (node.operation == Operation::multiply) {
      of[i] = of[node.x] * of[node.y];
    } else if constexpr (node.operation == Operation::negate) {
      of[i] = -of[node.x];
    } else if constexpr (node.operation == Operation::sigmoid) {
      of[i] = T(sigmoid(Gate(of[node.x])));
    } else {
      of[i] = T(tanh_gate(Gate(of[node.x])));
    }
  });
  return all;
}

/// J = df/dh [kState, kState] (row: result).
template <class Cell, class T>
PRNN_HD inline void step_jacobian(const StepValues<Cell, T>& values, T (&jacobian)[Cell::kState][Cell::kState]) {
  detail::forwards<Cell::kState>([&]<int j>() {
    T adjoint[kStepGraph<Cell>.count], seed[Cell::kState];
    seed[j] = T(1);
    detail::go_back<Cell, 1u << j>(values, seed, adjoint);
    detail::take<Cell, 1u << j, 0>(adjoint, jacobian[j]);
  });
}

/// g [kState] -> (df/da)^T g [kWeights], (df/du)^T g [kInputs].
template <class Cell, class T>
PRNN_HD inline void step_gradients(const StepValues<Cell, T>& values, const T (&g)[Cell::kState], T (&grad_a)[Cell::kWeights], T (&grad_u)[Cell::kInputs]) {
  constexpr unsigned kAll = (1u << Cell::kState) - 1;
  T adjoint[kStepGraph<Cell>.count];
  detail::go_back<Cell, kAll>(values, g, adjoint);
  detail::take<Cell, kAll, Cell::kState>(adjoint, grad_a);
  detail::take<Cell, kAll, Cell::kState + Cell::kWeights>(adjoint, grad_u);
}

/// g [N] -> J^T g [N].
template <class T, int N>
PRNN_HD inline void multiply_transposed(const T (&jacobian)[N][N], const T (&g)[N], T (&out)[N]) {
  for (int n = 0; n < N; ++n) {
    T sum = jacobian[0][n] * g[0];
    for (int j = 1; j < N; ++j) sum = jacobian[j][n] * g[j] + sum;
    out[n] = sum;
  }
}

}  // namespace prnn
