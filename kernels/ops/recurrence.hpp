// recurrence.hpp: the ops "recurrence", h_l = f(h_{l-1}, u_l), with its gradients, and "reduction", f affine: how tensors are drawn and how every element of a
// result is judged.
// Element functions stand here once; recurrence.cpp loops over them on the host, recurrence.cu on a device.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/api.hpp"
#include "kernels/cells/layout.hpp"
#include "kernels/fault.hpp"
#include "kernels/ops/trained.hpp"
#include "kernels/primitives/draws.hpp"

namespace prnn {

#ifndef __CUDACC_RTC__

/// Cell steps below which one host thread does them: waking a team costs more, far more where the cores are shared.
inline constexpr std::int64_t kStepsWorthThreads = 1 << 15;

/// What regime, weight_std and h0 of a problem draw from. Throws BadInput for a regime this build does not draw.
Regime regime_of(const Problem&);

/// One channel's exact inputs, quantised to the storage type and held in double.
struct ChannelData {
  std::string cell;
  std::int64_t seq_len = 0;
  std::vector<double> weights;  // [kWeights]; of a scan 0
  std::vector<double> inputs;   // [L, kInputs]
  std::vector<double> initial;  // [kState]
};

/// Regenerates channel (b, d) of a problem on the host, bit for bit what draw() puts into device memory.
ChannelData draw_channel(const Problem&, std::int64_t b, std::int64_t d);

/// The loss's gradients that one channel is given, quantised as ChannelData is. Loss = <grad_h, h> + <grad_last, last>; grad = squares: |h|^2 + <grad_last, last>.
struct ChannelGradients {
  std::vector<double> states;  // [L, G], G = kState (grad = all) or 1 (grad = output: by the last component alone); of squares none is drawn, and it is 2 h
  std::vector<double> last;    // [kState]
};
ChannelGradients draw_gradients(const Problem&, std::int64_t b, std::int64_t d);

/// G of the tensor grad_h of a cell with `states` components; 0: there is none.
inline int grad_components(const Problem& p, int states) { return p.grad == "squares" ? 0 : p.grad == "output" ? 1 : states; }

#endif  // __CUDACC_RTC__

/// What an element of a drawn tensor is made from; plain values, so that a kernel takes it as an argument.
struct DrawArguments {
  Regime regime;
  Memory memory;
  std::uint64_t seed;
  std::int64_t hidden, seq_len;
  const unsigned char* text;  // [text_bytes], in the machine's memory
  std::int64_t text_bytes;
  const std::uint16_t* draws = nullptr;     // [D], in the machine's memory: which draw of the weights each channel has; null: the first
  const double* trained_inputs = nullptr;   // [kTrainedBytes, kInputs, trained_channels], in the machine's memory: of a byte; null: drawn
  const double* trained_weights = nullptr;  // [kWeights, trained_channels], likewise
  std::int64_t trained_channels = 1;        // channel d has those of d modulo this
  int scan_state = 0;                       // the inputs are maps of so many components (op reduction); 0: pre-activations
};

/// Weight k of channel d, in double before rounding to storage. draw: which of the channel's draws.
PRNN_HD inline double weight_of(const DrawArguments& args, int k, std::int64_t d, int draw) {
  if (args.trained_weights) return args.trained_weights[k * args.trained_channels + d % args.trained_channels];
  return draw_weight(args.regime, args.seed, k, d, draw);
}

/// Input k, of `inputs`, of step (b, l, d), likewise.
PRNN_HD inline double input_of(const DrawArguments& args, int inputs, std::int64_t b, std::int64_t l, int k, std::int64_t d) {
  if (args.scan_state > 0) return draw_map(args.scan_state, args.seed, b, l, k, d);
  if (!args.trained_inputs) return draw_input(args.regime, args.memory, args.seed, b, l, k, d, args.seq_len, args.text, args.text_bytes);
  const int byte = text_byte(b, l, args.seq_len, args.text, args.text_bytes) % kTrainedBytes;
  return args.trained_inputs[(byte * inputs + k) * args.trained_channels + d % args.trained_channels];
}

/// Element `index` of u [B, L, kInputs, D], a [kWeights, D], h0 or grad_last [B, kState, D], or grad_h [B, L, G, D]; T its storage type.
template <class T>
PRNN_HD T draw_element(const DrawArguments& args, DrawStream stream, int components, std::int64_t index) {
  const std::int64_t d = index % args.hidden, row = index / args.hidden;
  const int k = int(row % components);
  const std::int64_t outer = row / components;
  if (stream == DrawStream::weight) return drawn<T>(weight_of(args, k, d, args.draws ? args.draws[d] : 0));
  if (stream == DrawStream::initial) return drawn<T>(draw_initial(args.regime, args.seed, outer, k, d));
  if (stream == DrawStream::last_gradient) return drawn<T>(draw_gradient(args.seed, stream, outer, 0, k, d));
  const std::int64_t b = outer / args.seq_len, l = outer % args.seq_len;
  if (stream == DrawStream::gradient) return drawn<T>(draw_gradient(args.seed, stream, b, l, k, d));
  return drawn<T>(input_of(args, components, b, l, k, d));
}

/// Pointers of one problem; h0 and last are in compute type.
template <class T>
struct RecurrenceTensors {
  const T* u;              // [B, L, kInputs, D]
  const T* a;              // [kStoredWeights, D]; null: there are none
  const compute_t<T>* h0;  // [B, kState, D]
  T* h;                    // [B, L, kState, D]
  compute_t<T>* last;      // [B, kState, D]

#ifndef __CUDACC_RTC__
  explicit RecurrenceTensors(const Tensors& t)
      : u(t.data<T>("u")), a(t.find("a") ? t.data<T>("a") : nullptr), h0(t.data<compute_t<T>>("h0")), h(t.data<T>("h")), last(t.data<compute_t<T>>("last")) {}
#endif
};

/// Pointers of one backward pass; edges and da are in compute type. h is the forward pass's as stored, an exact input.
///   g_L = grad_last + grad_h_L;  (g_{l-1}, da, du_l) = J_l^T g_l at (h_{l-1}, a, u_l), h_0 = h0, and grad_h_{l-1} added to g_{l-1};  dh0 = g_0
/// Where the tensors have no grad_h the loss is |h|^2 (grad = squares) and grad_h = 2 h. Every reader takes grad_factor() x grad_h[grad_at(..)].
template <class T>
struct BackwardTensors {
  const T* u;                     // [B, L, kInputs, D]
  const T* a;                     // [kWeights, D]
  const compute_t<T>* h0;         // [B, kState, D]
  const T* h;                     // [B, L, kState, D]
  const T* grad_h;                // [B, L, G, D]: of the last G components; squares: h
  const compute_t<T>* grad_last;  // [B, kState, D]
  T* du;                          // [B, L, kInputs, D]
  compute_t<T>* da;               // [kWeights, D], summed over b and l
  compute_t<T>* dh0;              // [B, kState, D]
  int grad_components;            // G; squares: kState
  bool squares;                   // the loss is |h|^2

#ifndef __CUDACC_RTC__
  explicit BackwardTensors(const Tensors& t)
      : u(t.data<T>("u")),
        a(t.data<T>("a")),
        h0(t.data<compute_t<T>>("h0")),
        h(t.data<T>("h")),
        grad_h(t.data<T>(loss_tensor(t))),
        grad_last(t.data<compute_t<T>>("grad_last")),
        du(t.data<T>("du")),
        da(t.data<compute_t<T>>("da")),
        dh0(t.data<compute_t<T>>("dh0")),
        grad_components(int(t.at(loss_tensor(t)).spec.shape[2])),
        squares(grad_h == h) {}
#endif

  /// Offset of component kState - G + k of step l in grad_h.
  template <class Cell>
  PRNN_HD std::int64_t grad_at(const Layout<Cell>& at, std::int64_t b, std::int64_t l, int k, std::int64_t d) const {
    return ((b * at.seq_len + l) * grad_components + k) * at.hidden + d;
  }
  /// 1, or 2 where grad_h is h; the product is exact but for overflow.
  PRNN_HD compute_t<T> grad_factor() const { return compute_t<T>(squares ? PRNN_FAULT(53, 2, 1) : 1); }

#ifndef __CUDACC_RTC__
 private:
  static const char* loss_tensor(const Tensors& t) { return t.find("grad_h") ? "grad_h" : "h"; }
#endif
};

/// What step l (0-based) of channel (b, d) is differentiated at: h_{l-1} as stored [kState], a [kWeights], u_l [kInputs]; in X, exact.
template <class Cell, class T, class X>
PRNN_HD void load_point(const Layout<Cell>& at, const BackwardTensors<T>& t, std::int64_t b, std::int64_t l, std::int64_t d, X (&h_before)[Cell::kState], X (&a)[Cell::kWeights],
                        X (&u)[Cell::kInputs]) {
  for (int k = 0; k < Cell::kState; ++k) h_before[k] = X(l == 0 ? t.h0[at.edge(b, k, d)] : to_compute(t.h[at.h(b, l - 1, k, d)]));
  for (int k = 0; k < Cell::kWeights; ++k) a[k] = X(to_compute(t.a[at.a(k, d)]));
  for (int k = 0; k < Cell::kInputs; ++k) u[k] = X(to_compute(t.u[at.u(b, l, k, d)]));
}

/// g [kState] += what the loss itself has by h_l: all components or the last.
template <class Cell, class T, class X>
PRNN_HD void add_grad_h(const Layout<Cell>& at, const BackwardTensors<T>& t, std::int64_t b, std::int64_t l, std::int64_t d, X (&g)[Cell::kState]) {
  const int first = Cell::kState - t.grad_components;
  for (int k = 0; k < Cell::kState; ++k) {
    if (k >= first) g[k] = g[k] + X(t.grad_factor() * to_compute(t.grad_h[t.grad_at(at, b, l, k - first, d)]));
  }
}

/// A non-finite number at a step makes the channel's gradients NaN from that step on towards the start: g reaches every one of them.
template <class Cell, class X>
PRNN_HD void guard_adjoint(const X (&h_before)[Cell::kState], const X (&a)[Cell::kWeights], const X (&u)[Cell::kInputs], X (&g)[Cell::kState]) {
  X poison = X(0) * g[0];
  for (int k = 1; k < Cell::kState; ++k) poison = poison + X(0) * g[k];
  for (int k = 0; k < Cell::kState; ++k) poison = poison + X(0) * h_before[k];
  for (int k = 0; k < Cell::kWeights; ++k) poison = poison + X(0) * a[k];
  for (int k = 0; k < Cell::kInputs; ++k) poison = poison + X(0) * u[k];
  g[0] = g[0] + poison;
}

/// Design section 6, test 1, for step l (0-based) of channel (b, d), in double: the largest over the components of
/// |h_l - f(h_{l-1}, u_l)| / (g_l + u_s (|h_l| + |J_l| |h_{l-1}|)). For u_s |h| stands storing_error(): the same for every normal number; below
/// 2^-14, where f16 rounds to multiples of 2^-24, half of one, 2^-25 (the other types' 2^-134 and less is nothing beside g_l).
/// gate_error: stated, of one gate.
/// NaN where h_l is NaN without cause or is not NaN although it must be. After the last step the stored h must be `last` rounded once, to the bit.
/// scale [kState]: u_c times it is added to the bound.
template <class Cell, class T>
PRNN_HD double local_ratio(const Layout<Cell>& at, const RecurrenceTensors<T>& t, double gate_error, std::int64_t b, std::int64_t l, std::int64_t d,
                           const double (&scale)[Cell::kState] = {}) {
  constexpr int K = Cell::kState;
  double h_before[K], a[Cell::kWeights], u[Cell::kInputs], h[K];
  for (int k = 0; k < Cell::kWeights; ++k) a[k] = k < kStoredWeights<Cell> ? double(to_compute(t.a[at.a(k, d)])) : 0;
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
    double bound = g[i] + unit_roundoff_v<compute_t<T>> * scale[i] + storing_error<T>(h[i]);
    for (int j = 0; j < K; ++j) bound += abs_jacobian[i][j] * storing_error<T>(h_before[j]);
    const double error = fabs(h[i] - f[i]);
    const double ratio = error == 0 ? 0 : error / bound;
    if (!(ratio <= worst)) worst = ratio;
  }
  return worst;
}

/// Steps of a scan that are judged one after the other, and steps before them that their scale is summed over too.
inline constexpr std::int64_t kScanJudged = 256, kScanScale = 64;

/// Test 1 of op reduction for steps first .. stop - 1 of channel (b, d). A scan composes maps in any order, so what it rounds is not h but parts of the sum
/// that h is, which may cancel: rounding is in proportion to M_l = |J_l| M_{l-1} + |r_l|, the bound's scale (Higham 2002, "Accuracy and Stability of
/// Numerical Algorithms", section 4.2, for sums). M is summed from kScanScale steps before `first` on: less than all, so the bound is the stricter.
template <class Scan, class T>
PRNN_HD double scan_ratio(const Layout<Scan>& at, const RecurrenceTensors<T>& t, std::int64_t b, std::int64_t d, std::int64_t first, std::int64_t stop) {
  constexpr int K = Scan::kState;
  double scale[K] = {}, worst = 0;
  std::int64_t l = first < kScanScale ? 0 : first - kScanScale;
  if (l == 0) {
    for (int i = 0; i < K; ++i) scale[i] = fabs(double(t.h0[at.edge(b, i, d)]));
  }
  for (; l < stop; ++l) {
    double next[K];
    for (int i = 0; i < K; ++i) {
      next[i] = fabs(double(to_compute(t.u[at.u(b, l, i * (K + 1) + K, d)])));
      for (int j = 0; j < K; ++j) next[i] += fabs(double(to_compute(t.u[at.u(b, l, i * (K + 1) + j, d)]))) * scale[j];
    }
    for (int i = 0; i < K; ++i) scale[i] = next[i];
    if (l < first) continue;
    const double ratio = local_ratio<Scan>(at, t, 0, b, l, d, scale);
    if (!(ratio <= worst)) worst = ratio;
    if (ratio != ratio) return ratio;
  }
  return worst;
}

#ifndef __CUDACC_RTC__

/// Stated error of one gate, as a problem's storage type and `gates` have it.
inline double gate_error(Storage storage, std::string_view gates) {
  return gates == "approx" ? kApproxGateError : compute_storage(storage) == Storage::f64 ? gate_error_v<double> : gate_error_v<float>;
}

/// A device's way of doing the three loops; each back end enters itself (recurrence.cu twice: CUDA and emulated).
struct RecurrenceLoops {
  std::string device, cell;
  Storage storage;
  void (*draw)(const Problem&, const DrawArguments&, Machine&, const Tensors&);
  double (*state_ratio)(const Problem&, Machine&, const Tensors&);
  LocalRatios (*gradient_ratios)(const Problem&, Machine&, const Tensors&);
  /// Column d of rows first_row .. first_row + rows - 1 of a tensor seen as [row, D], as double [rows].
  std::vector<double> (*gather)(const Problem&, const Tensors::Item&, std::int64_t first_row, std::int64_t rows, std::int64_t d, Machine&);
};
std::vector<RecurrenceLoops>& recurrence_loops();

template <class Cell>
Layout<Cell> layout_of(const Problem& problem) {
  return {problem.batch, problem.seq_len, problem.hidden};
}

/// fill(pointer, stream, components, elements) for every tensor of the problem that is drawn.
template <class Cell, class T, class F>
void for_each_drawn(const Problem& p, const Tensors& t, F&& fill) {
  const Layout<Cell> at = layout_of<Cell>(p);
  const std::int64_t edges = at.edge(p.batch, 0, 0);
  fill(t.data<T>("u"), DrawStream::input, Cell::kInputs, at.u(p.batch, 0, 0, 0));
  if (kStoredWeights < Cell >> 0) fill(t.data<T>("a"), DrawStream::weight, Cell::kWeights, at.a(Cell::kWeights, 0));
  fill(t.data<compute_t<T>>("h0"), DrawStream::initial, Cell::kState, edges);
  if (p.pass == "forward") return;
  const int G = grad_components(p, Cell::kState);
  if (G > 0) fill(t.data<T>("grad_h"), DrawStream::gradient, G, at.position(p.batch, 0, 0) * G);
  fill(t.data<compute_t<T>>("grad_last"), DrawStream::last_gradient, Cell::kState, edges);
}

#endif  // __CUDACC_RTC__

}  // namespace prnn
