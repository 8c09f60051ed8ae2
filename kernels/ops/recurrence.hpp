// recurrence.hpp: the op "recurrence", h_l = f(h_{l-1}, u_l): how its tensors are drawn and how every element of a result is judged.
// Element functions stand here once; recurrence.cpp loops over them on the host, recurrence.cu on a device.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/api.hpp"
#include "kernels/cells/layout.hpp"
#include "kernels/primitives/draws.hpp"

namespace prnn {

/// Cell steps below which one host thread does them: waking a team costs more, far more where the cores are shared.
inline constexpr std::int64_t kStepsWorthThreads = 1 << 15;

/// What regime, weight_std and h0 of a problem draw from. Throws BadInput for a regime this build does not draw.
Regime regime_of(const Problem&);

/// One channel's exact inputs, quantised to the storage type and held in double.
struct ChannelData {
  std::string cell;
  std::int64_t seq_len = 0;
  std::vector<double> weights;  // [kWeights]
  std::vector<double> inputs;   // [L, kInputs]
  std::vector<double> initial;  // [kState]
};

/// Regenerates channel (b, d) of a problem on the host, bit for bit what draw() puts into device memory.
ChannelData draw_channel(const Problem&, std::int64_t b, std::int64_t d);

/// What an element of a drawn tensor is made from; plain values, so that a kernel takes it as an argument.
struct DrawArguments {
  Regime regime;
  Memory memory;
  std::uint64_t seed;
  std::int64_t hidden, seq_len;
  const unsigned char* text;  // [text_bytes], in the machine's memory
  std::int64_t text_bytes;
};

/// Element `index` of u [B, L, kInputs, D], a [kWeights, D] or h0 [B, kState, D], T its storage type.
template <class T>
PRNN_HD T draw_element(const DrawArguments& args, DrawStream stream, int components, std::int64_t index) {
  const std::int64_t d = index % args.hidden, row = index / args.hidden;
  const int k = int(row % components);
  const std::int64_t outer = row / components;
  if (stream == DrawStream::weight) return drawn<T>(draw_weight(args.regime, args.seed, k, d));
  if (stream == DrawStream::initial) return drawn<T>(draw_initial(args.regime, args.seed, outer, k, d));
  return drawn<T>(draw_input(args.regime, args.memory, args.seed, outer / args.seq_len, outer % args.seq_len, k, d, args.seq_len, args.text, args.text_bytes));
}

/// Pointers of one problem; h0 and last are in compute type.
template <class T>
struct RecurrenceTensors {
  const T* u;              // [B, L, kInputs, D]
  const T* a;              // [kWeights, D]
  const compute_t<T>* h0;  // [B, kState, D]
  T* h;                    // [B, L, kState, D]
  compute_t<T>* last;      // [B, kState, D]

  explicit RecurrenceTensors(const Tensors& t) : u(t.data<T>("u")), a(t.data<T>("a")), h0(t.data<compute_t<T>>("h0")), h(t.data<T>("h")), last(t.data<compute_t<T>>("last")) {}
};

/// Design section 6, test 1, for step l (0-based) of channel (b, d), in double: the largest over the components of
/// |h_l - f(h_{l-1}, u_l)| / (g_l + u_s (|h_l| + |J_l| |h_{l-1}|)). For u_s |h| stands storing_error(): the same for every normal number; below
/// 2^-14, where f16 rounds to multiples of 2^-24, half of one, 2^-25 (the other types' 2^-134 and less is nothing beside g_l).
/// gate_error: stated, of one gate.
/// NaN where h_l is NaN without cause or is not NaN although it must be. After the last step the stored h must be `last` rounded once, to the bit.
template <class Cell, class T>
PRNN_HD double local_ratio(const Layout<Cell>& at, const RecurrenceTensors<T>& t, double gate_error, std::int64_t b, std::int64_t l, std::int64_t d) {
  constexpr int K = Cell::kState;
  double h_before[K], a[Cell::kWeights], u[Cell::kInputs], h[K];
  for (int k = 0; k < Cell::kWeights; ++k) a[k] = to_compute(t.a[at.a(k, d)]);
  for (int k = 0; k < Cell::kInputs; ++k) u[k] = to_compute(t.u[at.u(b, l, k, d)]);
  for (int k = 0; k < K; ++k) {
    h_before[k] = l == 0 ? double(t.h0[at.edge(b, k, d)]) : double(to_compute(t.h[at.h(b, l - 1, k, d)]));
    h[k] = to_compute(t.h[at.h(b, l, k, d)]);
  }
  guard_inputs<Cell>(u);
  guard_start<Cell>(a, h_before);

  double f[K], abs_jacobian[K][K], g[K];
  step_and_bound<Cell>(h_before, a, u, unit_roundoff_v<compute_t<T>>, gate_error, f, abs_jacobian, g);
  double worst = 0;
  for (int i = 0; i < K; ++i) {
    const bool must_be_nan = f[i] != f[i], is_nan = h[i] != h[i];
    if (must_be_nan != is_nan) return not_a_number<double>();
    if (l == at.seq_len - 1) {
      const double last = to_compute(to_storage<T>(t.last[at.edge(b, i, d)]));
      if (is_nan ? last == last : last != h[i]) return not_a_number<double>();
    }
    if (is_nan) continue;
    double bound = g[i] + storing_error<T>(h[i]);
    for (int j = 0; j < K; ++j) bound += abs_jacobian[i][j] * storing_error<T>(h_before[j]);
    const double error = fabs(h[i] - f[i]);
    const double ratio = error == 0 ? 0 : error / bound;
    if (!(ratio <= worst)) worst = ratio;
  }
  return worst;
}

/// Stated error of one gate, as a problem's storage type and `gates` have it.
inline double gate_error(Storage storage, std::string_view gates) {
  return gates == "approx" ? kApproxGateError : compute_storage(storage) == Storage::f64 ? gate_error_v<double> : gate_error_v<float>;
}

/// A device's way of doing the three loops; each back end enters itself (recurrence.cu twice: CUDA and emulated).
struct RecurrenceLoops {
  std::string device, cell;
  Storage storage;
  void (*draw)(const Problem&, const DrawArguments&, Machine&, const Tensors&);
  double (*ratio_local)(const Problem&, Machine&, const Tensors&);
  /// Column d of rows first_row .. first_row + rows - 1 of a tensor seen as [row, D], as double [rows].
  std::vector<double> (*gather)(const Problem&, const Tensors::Item&, std::int64_t first_row, std::int64_t rows, std::int64_t d, Machine&);
};
std::vector<RecurrenceLoops>& recurrence_loops();

template <class Cell>
Layout<Cell> layout_of(const Problem& problem) {
  return {problem.batch, problem.seq_len, problem.hidden};
}

}  // namespace prnn
