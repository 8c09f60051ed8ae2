// recurrence.cu: the loops of the ops "recurrence" and "reduction" on a device: draw the inputs, judge every step, gather a channel.
#include <algorithm>

#include "kernels/ops/gradients.hpp"
#include "kernels/primitives/device.cuh"
#include "kernels/primitives/register.hpp"

namespace prnn::PRNN_BACKEND {

inline constexpr int kThreads = 256;

/// Enough blocks to cover `count` elements once, at most a few waves: every kernel here strides over the grid.
inline std::int64_t blocks_for(std::int64_t count) { return std::clamp<std::int64_t>((count + kThreads - 1) / kThreads, 1, 132 * 32); }

template <class T>
PRNN_KERNEL draw_kernel(DrawArguments args, DrawStream stream, int components, std::int64_t count, T* out) {
  for (std::int64_t i = block_index() * thread_count() + thread_index(); i < count; i += block_count() * thread_count()) {
    const T drawn = draw_element<T>(args, stream, components, i);
    out[i] = drawn;
  }
}

/// Pointers of one problem for a kernel that only judges: not hot, it is compiled once a cell, and chooses the storage type when it runs.
template <template <class> class PointersOf>
class AnyStorage {
 public:
#ifndef __CUDACC_RTC__
  AnyStorage(Storage storage, const Tensors& t) : storage_(storage), f32_(t), f64_(t), bf16_(t), f16_(t) {}
#endif

  /// f(pointers) of the problem's storage type.
  template <class F>
  PRNN_DEVICE auto visit(const F& f) const {
    switch (storage_) {
      case Storage::f32: return f(f32_);
      case Storage::f64: return f(f64_);
      case Storage::bf16: return f(bf16_);
      case Storage::f16: break;
    }
    return f(f16_);
  }

 private:
  Storage storage_;
  PointersOf<float> f32_;  // the same addresses in every type; those of the other types are never read
  PointersOf<double> f64_;
  PointersOf<Bf16> bf16_;
  PointersOf<F16> f16_;
};

template <class Cell>
PRNN_KERNEL local_ratio_kernel(Layout<Cell> at, AnyStorage<RecurrenceTensors> tensors, double gate_error, double* worst) {
  const std::int64_t count = at.position(at.batch, 0, 0);
  double mine = 0;
  for (std::int64_t i = block_index() * thread_count() + thread_index(); i < count; i += block_count() * thread_count()) {
    const std::int64_t d = i % at.hidden, row = i / at.hidden;
    keep_largest(mine, tensors.visit([&](const auto& t) { return local_ratio<Cell>(at, t, gate_error, row / at.seq_len, row % at.seq_len, d); }));
  }
  if (!(mine <= 0)) atomic_max_magnitude(worst, mine);
}

/// A thread a stretch of a channel.
template <class Scan>
PRNN_KERNEL scan_ratio_kernel(Layout<Scan> at, AnyStorage<RecurrenceTensors> tensors, double* worst) {
  const std::int64_t stretches = (at.seq_len + kScanJudged - 1) / kScanJudged * at.channels();
  double mine = 0;
  for (std::int64_t i = block_index() * thread_count() + thread_index(); i < stretches; i += block_count() * thread_count()) {
    const std::int64_t channel = i % at.channels(), first = i / at.channels() * kScanJudged, stop = first + kScanJudged < at.seq_len ? first + kScanJudged : at.seq_len;
    keep_largest(mine, tensors.visit([&](const auto& t) { return scan_ratio<Scan>(at, t, channel / at.hidden, channel % at.hidden, first, stop); }));
  }
  if (!(mine <= 0)) atomic_max_magnitude(worst, mine);
}

template <class T>
PRNN_KERNEL gather_kernel(const T* data, std::int64_t first_row, std::int64_t rows, std::int64_t hidden, std::int64_t d, double* column) {
  for (std::int64_t r = block_index() * thread_count() + thread_index(); r < rows; r += block_count() * thread_count()) column[r] = to_compute(data[(first_row + r) * hidden + d]);
}

#ifndef __CUDACC_RTC__
template <class Cell, class T>
void draw_tensors(const Problem& p, const DrawArguments& args, Machine& machine, const Tensors& t) {
  for_each_drawn<Cell, T>(p, t, [&]<class Element>(Element* out, DrawStream stream, int components, std::int64_t count) {
    launch(&draw_kernel<Element>, blocks_for(count), kThreads, 0, machine.stream(), args, stream, components, count, out);
  });
}

template <class Cell>
double state_ratio(const Problem& p, Machine& machine, const Tensors& t) {
  const Layout<Cell> at = layout_of<Cell>(p);
  const AnyStorage<RecurrenceTensors> tensors(p.storage, t);
  const Buffer worst(machine, sizeof(double));
  machine.fill(worst.data(), 0, sizeof(double));
  if constexpr (is_scan<Cell>) {
    launch(&scan_ratio_kernel<Cell>, blocks_for((p.seq_len + kScanJudged - 1) / kScanJudged * at.channels()), kThreads, 0, machine.stream(), at, tensors, worst.as<double>());
  } else {
    launch(&local_ratio_kernel<Cell>, blocks_for(at.position(p.batch, 0, 0)), kThreads, 0, machine.stream(), at, tensors, gate_error(p.storage, p.gates), worst.as<double>());
  }
  double ratio = 0;
  machine.download(&ratio, worst.data(), sizeof ratio);
  return ratio;
}
#endif  // __CUDACC_RTC__

/// Largest ratios of du, da and dh0, in this order, at worst [3].
template <class Cell, bool kApproximate>
PRNN_KERNEL judge_gradients_kernel(Layout<Cell> at, AnyStorage<BackwardTensors> tensors, GradientTerms* terms, double* worst) {
  const std::int64_t channel = block_index() * thread_count() + thread_index();
  if (channel >= at.channels()) return;
  double du = 0, dh0 = 0;
  tensors.visit([&]<class T>(const BackwardTensors<T>& t) {
    judge_gradients<Cell, T, kApproximate && !std::is_same_v<T, double>>(at, t, channel / at.hidden, channel % at.hidden, terms, du, dh0);
  });
  if (!(du <= 0)) atomic_max_magnitude(worst, du);
  if (!(dh0 <= 0)) atomic_max_magnitude(worst + 2, dh0);
}

template <class Cell>
PRNN_KERNEL judge_weights_kernel(Layout<Cell> at, AnyStorage<BackwardTensors> tensors, const GradientTerms* terms, double* worst) {
  const std::int64_t i = block_index() * thread_count() + thread_index();
  if (i >= at.a(Cell::kWeights, 0)) return;
  const double ratio = tensors.visit([&](const auto& t) { return judge_weight<Cell>(at, terms, t.da, int(i / at.hidden), i % at.hidden); });
  if (!(ratio <= 0)) atomic_max_magnitude(worst + 1, ratio);
}

#ifndef __CUDACC_RTC__

template <class Cell>
LocalRatios gradient_ratios(const Problem& p, Machine& machine, const Tensors& t) {
  constexpr int kFew = 64;  // threads a block: a channel is long work, and registers are short
  const Layout<Cell> at = layout_of<Cell>(p);
  const AnyStorage<BackwardTensors> tensors(p.storage, t);
  const std::int64_t weights = at.a(Cell::kWeights, 0);
  double ratios[3];
  const Buffer worst(machine, sizeof ratios), terms(machine, p.batch * weights * std::int64_t(sizeof(GradientTerms)));
  machine.fill(worst.data(), 0, sizeof ratios);
  launch(p.gates == "approx" ? &judge_gradients_kernel<Cell, true> : &judge_gradients_kernel<Cell, false>, (at.channels() + kFew - 1) / kFew, kFew, 0, machine.stream(), at,
         tensors, terms.as<GradientTerms>(), worst.as<double>());
  launch(&judge_weights_kernel<Cell>, (weights + kThreads - 1) / kThreads, kThreads, 0, machine.stream(), at, tensors, terms.as<GradientTerms>(), worst.as<double>());
  machine.download(ratios, worst.data(), sizeof ratios);
  return {.h = {}, .du = ratios[0], .da = ratios[1], .dh0 = ratios[2]};
}

template <class T>
std::vector<double> gather_column(const Problem& p, const Tensors::Item& item, std::int64_t first_row, std::int64_t rows, std::int64_t d, Machine& machine) {
  const Buffer column(machine, rows * std::int64_t(sizeof(double)));
  const auto gather = [&]<class Element>(const Element* data) {
    launch(&gather_kernel<Element>, blocks_for(rows), kThreads, 0, machine.stream(), data, first_row, rows, p.hidden, d, column.as<double>());
  };
  if (item.spec.type == storage_of<T>) {
    gather(static_cast<const T*>(item.data));
  } else {
    gather(static_cast<const compute_t<T>*>(item.data));
  }
  std::vector<double> host(static_cast<std::size_t>(rows));
  machine.download(host.data(), column.data(), column.bytes());
  return host;
}

[[maybe_unused]] static const bool registered_loops = [] {
  AllStorages::for_each([]<class T>() {
    AllCells::for_each([]<class Cell>() {
      recurrence_loops().push_back({kDevice, Cell::name, storage_of<T>, &draw_tensors<Cell, T>, &state_ratio<Cell>, &gradient_ratios<Cell>, &gather_column<T>});
    });
    AllScans::for_each([]<class Scan>() {
      recurrence_loops().push_back({kDevice, Scan::name, storage_of<T>, &draw_tensors<Scan, T>, &state_ratio<Scan>, nullptr, &gather_column<T>});
    });
  });
  return true;
}();

#endif  // __CUDACC_RTC__

}  // namespace prnn::PRNN_BACKEND
