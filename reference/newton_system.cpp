// newton_system.cpp: all L equations of eq. 2.1 as one dense system, so that nothing here resembles a scan: the true iterates of Newton.
#include <algorithm>
#include <cmath>

#include <Eigen/Dense>
#include <boost/multiprecision/eigen.hpp>

#include "kernels/fault.hpp"
#include "reference/channel_in.hpp"
#include "reference/mp.hpp"
#include "reference/running_bound.hpp"

namespace prnn {
namespace {

constexpr std::int64_t kMostUnknowns = 256, kMostUnknownsInDouble = 2048;

template <class T>
using Vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;
template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;

template <class T>
double to_double(const T& x) {
  return static_cast<double>(x);
}

/// A channel as one system in n = L kState unknowns.
template <class Cell, class T>
struct NewtonSystem {
  static constexpr int K = Cell::kState;
  const ChannelData& data;
  T a[Cell::kWeights], h0[K];

  explicit NewtonSystem(const ChannelData& channel) : data(channel) {
    for (int k = 0; k < Cell::kWeights; ++k) a[k] = T(data.weights[std::size_t(k)]);
    for (int i = 0; i < K; ++i) h0[i] = T(data.initial[std::size_t(i)]);
  }
  void inputs(std::int64_t l, T (&u)[Cell::kInputs]) const {
    for (int k = 0; k < Cell::kInputs; ++k) u[k] = T(data.inputs[std::size_t(l * Cell::kInputs + k)]);
  }

  /// h^0_l = f(0, u_l).
  Vector<T> guess() const {
    Vector<T> h(data.seq_len * K);
    for (std::int64_t l = 0; l < data.seq_len; ++l) {
      T zero[K], u[Cell::kInputs], f[K];
      std::fill(std::begin(zero), std::end(zero), T(0));
      inputs(l, u);
      Cell::step(zero, a, u, f);
      for (int i = 0; i < K; ++i) h(l * K + i) = f[i];
    }
    return h;
  }

  /// residual_l = f(h_{l-1}, u_l) - h_l, and the matrix with I on the diagonal and -J_l = -df/dh(h_{l-1}, u_l) in block (l, l-1).
  void assemble(const Vector<T>& h, Vector<T>& residual, Matrix<T>* matrix) const {
    residual.resize(h.size());
    if (matrix) *matrix = Matrix<T>::Identity(h.size(), h.size());
    for (std::int64_t l = 0; l < data.seq_len; ++l) {
      T before[K], u[Cell::kInputs], f[K], jacobian[K][K];
      for (int i = 0; i < K; ++i) before[i] = l == 0 ? h0[i] : h((l - 1) * K + i);
      inputs(l, u);
      derived_jacobian<Cell>(before, a, u, f, jacobian);
      for (int i = 0; i < K; ++i) {
        residual(l * K + i) = f[i] - h(l * K + i);
        for (int j = 0; matrix && l > 0 && j < K; ++j) (*matrix)(l * K + i, (l - 1) * K + j) = -jacobian[i][j];
      }
    }
  }
};

template <class Cell, class T>
NewtonIterates iterates_of(const ChannelData& data, int count) {
  const NewtonSystem<Cell, T> system(data);
  const auto rounded = [](const Vector<T>& x) {
    std::vector<double> out;
    for (const T& value : x) out.push_back(to_double(value));
    return out;
  };
  NewtonIterates iterates;
  Vector<T> h = system.guess(), residual;
  Matrix<T> matrix;
  for (int k = 0;; ++k) {
    system.assemble(h, residual, k < count ? &matrix : nullptr);
    iterates.states.push_back(rounded(h));
    iterates.residual.push_back(rounded(residual));
    if (k == count) return iterates;
    h += matrix.template triangularView<Eigen::Lower>().solve(residual);
  }
}

template <class T>
NewtonIterates iterates_within(const ChannelData& data, int count, std::int64_t most) {
  const std::int64_t unknowns = data.seq_len * std::int64_t(data.initial.size());
  if (unknowns > most) throw BadInput("the whole Newton system of " + std::to_string(unknowns) + " unknowns is too large; expected at most " + std::to_string(most));
  NewtonIterates iterates;
  with_cell(data.cell, [&]<class Cell>() { iterates = iterates_of<Cell, T>(data, count); });
  return iterates;
}

/// What a computed Newton step loses at one l, all in double at the true point x = h^k_{l-1}. States, Jacobian and their sensitivity to
/// every gate come from one evaluation of the cell's step with probes (scalar.hpp) inside dual numbers.
template <class Cell>
struct StepSensitivity {
  static constexpr int K = Cell::kState, G = Cell::kGates;
  double f[K], g[K];  // value, and rounding bound of it (design section 6)
  double jacobian[K][K];
  double curvature[K][K][K];    // dJ_ij / dh_m
  double jacobian_error[K][K];  // rounding bound of J_ij

  StepSensitivity(const double (&x)[K], const double (&a)[Cell::kWeights], const double (&u)[Cell::kInputs], double unit_roundoff, double gate_error) {
    using P = Probe<K, G>;
    using D = Dual<P, K>;
    GateTape<G> tape;
    D h[K], y[K];
    for (int i = 0; i < K; ++i) h[i] = D::variable(P(Dual<double, K + G>::variable(x[i], i), &tape), i);
    Cell::step(h, a, u, y);
    // Rounding of a quantity q: of the result, of the argument of every gate it depends on, and the stated error of the gates.
    const auto rounding = [&](const P& q) {
      double bound = unit_roundoff * std::fabs(q.dual.value);
      for (int k = 0; k < G; ++k) bound += std::fabs(q.dual.slope[K + k]) * (unit_roundoff * std::fabs(tape.slope[k] * tape.argument[k]) + gate_error);
      return bound;
    };
    for (int i = 0; i < K; ++i) {
      f[i] = y[i].value.dual.value;
      g[i] = rounding(y[i].value);
      for (int j = 0; j < K; ++j) {
        jacobian[i][j] = y[i].slope[j].dual.value;
        jacobian_error[i][j] = rounding(y[i].slope[j]);
        for (int m = 0; m < K; ++m) curvature[i][j][m] = y[i].slope[j].dual.slope[m];
      }
    }
  }
};

/// Bound on the error of iterate k+1 from that of iterate k.
///
/// Exactly, with x = h^k_{l-1}, y = h^{k+1}_{l-1} and delta_{l-1} = y - x:  h^{k+1}_l = f(x) + J(x) (y - x)   [h^k_l cancels].
/// Its differential is J(x) dy + (dJ/dx delta_{l-1}) dx: the terms J dx from f and from -x cancel. So, to first order, with A the error of
/// h^k + delta before that sum is rounded,
///   A_l = |J_l| A_{l-1} + |dJ_l/dx delta_{l-1}| E^k_{l-1} + g_l + u_c |r_l| + G_l |delta_{l-1}| + u_c (2 |J_l| P_{l-1} + P_l),
///   E^{k+1}_l = A_l + u_c |h^{k+1}_l|,
/// g_l rounds f, u_c |r_l| the subtraction, G_l bounds the rounding of J_l, and the last term is the solve: delta_l = J_l delta_{l-1} + r_l costs two
/// roundings, of the product and of the sum. A scan forms the sums in another order, so the terms are those of partial sums: each is at
/// most P_l = |J_l| P_{l-1} + |r_l|. E^0_l = g_l at (0, u_l).
template <class Cell>
std::vector<std::vector<double>> bounds_of(const ChannelData& data, const NewtonIterates& iterates, Storage storage) {
  constexpr int K = Cell::kState;
  const double u_c = unit_roundoff(compute_storage(storage)), gate = gate_error(storage, "exact");
  const std::size_t L = std::size_t(data.seq_len);
  double a[Cell::kWeights];
  std::copy_n(data.weights.begin(), Cell::kWeights, a);
  const auto sensitivity = [&](std::size_t l, const double(&x)[K]) {
    double u[Cell::kInputs];
    std::copy_n(data.inputs.begin() + std::ptrdiff_t(l) * Cell::kInputs, Cell::kInputs, u);
    return StepSensitivity<Cell>(x, a, u, u_c, gate);
  };

  std::vector<std::vector<double>> bounds{std::vector<double>(L * K)};
  for (std::size_t l = 0; l < L; ++l) {
    const double zero[K] = {};
    const StepSensitivity<Cell> s = sensitivity(l, zero);
    std::copy_n(s.g, K, bounds[0].begin() + std::ptrdiff_t(l) * K);
  }
  for (std::size_t k = 0; k + 1 < iterates.states.size(); ++k) {
    const std::vector<double>&h = iterates.states[k], &next = iterates.states[k + 1], &residual = iterates.residual[k];
    std::vector<double> bound(L * K);
    double error[K] = {}, sums[K] = {}, delta[K] = {};  // A, P and delta of step l-1: nothing precedes the exact initial state
    for (std::size_t l = 0; l < L; ++l) {
      double x[K], new_error[K], new_sums[K];
      for (int i = 0; i < K; ++i) x[i] = l == 0 ? data.initial[std::size_t(i)] : h[(l - 1) * K + std::size_t(i)];
      const StepSensitivity<Cell> s = sensitivity(l, x);
      for (int i = 0; i < K; ++i) {
        const double r = std::fabs(residual[l * K + std::size_t(i)]);
        new_sums[i] = r;
        new_error[i] = s.g[i] + u_c * r;
        for (int j = 0; j < K; ++j) {
          const double J = std::fabs(s.jacobian[i][j]);
          new_sums[i] += J * sums[j];
          new_error[i] += J * error[j] + s.jacobian_error[i][j] * std::fabs(delta[j]) + 2 * u_c * J * sums[j];
        }
        for (int m = 0; l > 0 && m < K; ++m) {
          double moved = 0;
          for (int j = 0; j < K; ++j) moved += s.curvature[i][j][m] * delta[j];
          new_error[i] += std::fabs(moved) * bounds[k][(l - 1) * K + std::size_t(m)];
        }
        new_error[i] += u_c * new_sums[i];
      }
      for (int i = 0; i < K; ++i) {
        const std::size_t at = l * K + std::size_t(i);
        error[i] = new_error[i];
        sums[i] = new_sums[i];
        delta[i] = next[at] - h[at];
        bound[at] = error[i] + u_c * std::fabs(next[at]);
      }
    }
    bounds.push_back(std::move(bound));
  }
  return bounds;
}

}  // namespace

double NewtonIterates::residual_max(std::size_t iterate) const {
  double most = 0;
  for (const double r : residual[iterate]) most = max_or_nan(most, std::fabs(r));
  return most;
}

NewtonIterates true_iterates(const ChannelData& data, int count) { return iterates_within<Mp>(data, count, kMostUnknowns); }
NewtonIterates double_iterates(const ChannelData& data, int count) { return iterates_within<double>(data, count, kMostUnknownsInDouble); }

std::vector<std::vector<double>> iterate_bounds(const ChannelData& data, const NewtonIterates& iterates, Storage storage) {
  std::vector<std::vector<double>> bounds;
  with_cell(data.cell, [&]<class Cell>() { bounds = bounds_of<Cell>(data, iterates, storage); });
  return bounds;
}

double iterate_ratio(const ChannelData& data, int count, Storage storage, const std::function<std::vector<double>(int)>& run, std::int64_t* judged) {
  const NewtonIterates iterates = true_iterates(data, count);
  const std::vector<std::vector<double>> bounds = iterate_bounds(data, iterates, storage);
  double worst = 0;
  if (judged) *judged = 0;
  for (std::size_t k = 1; k < iterates.states.size(); ++k) {
    const std::vector<double> computed = run(int(k));
    const std::vector<double>& truth = iterates.states[k];
    if (computed.size() != truth.size()) throw std::invalid_argument("iterate_ratio: run() must return [L, kState]");
    for (std::size_t at = 0; at < truth.size(); ++at) {
      const double scale = std::max(1.0, std::fabs(truth[at]));
      if (!(bounds[k][at] < kJudgedBelow * scale)) continue;
      const double error = std::fabs(computed[at] - truth[at]);
      worst = max_or_nan(worst, error == 0 ? 0 : error / (bounds[k][at] + storing_error(storage, truth[at])));
      if (judged) ++*judged;
    }
  }
  return worst;
}

}  // namespace prnn
