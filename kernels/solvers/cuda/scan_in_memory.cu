// scan_in_memory.cu: the affine scan of every channel (op reduction) with all maps in memory, by two scans over it: the yardsticks of scan_chained.
//   u [B, L, K, K + 1, D] (rows of J, then r), h0 [B, K, D] -> h [B, L, K, D], last [B, K, D]
// The maps are transposed to [B D, L], scanned there, and what the composition of all maps up to a step makes of h0 is transposed back.
//   scan_stepwise: ceil(log2 L) launches over all of memory, each composing every map with the one 1, 2, 4, .. steps before it. Kogge and Stone 1973; the
//                  "step-by-step" version of Danieli et al. 2025 (arXiv:2510.21450), Fig. 2 left.
//   cub:           CUB's single-pass device-wide scan; a flag marks where a channel starts. Its order of compositions varies from run to run.
#include <cstring>
#include <utility>

#include "kernels/primitives/device_scan.cuh"
#include "kernels/primitives/register.hpp"

namespace prnn::PRNN_BACKEND {

inline constexpr int kScanThreads = 256;

/// Maps in compute type -> elements [B D, L]. The offset of a channel's first is the state that h0 becomes.
template <class Scan, class C>
PRNN_KERNEL maps_kernel(Layout<Scan> at, StoredRecurrence<C> t, Element<C, Scan::kState>* elements) {
  constexpr int K = Scan::kState;
  const TransposedTile<Scan> tile(at);
  auto* const slots = shared_memory<Element<C, K>>();
  tile.for_each_channel_fastest([&](int slot, std::int64_t l, std::int64_t d) {
    C u[Scan::kInputs];
    load_inputs<Scan>(t.u, at.u(tile.b, l, 0, d), at.hidden, u);
    Element<C, K> element;
    element.starts = l == 0;
    PRNN_UNROLL for (int i = 0; i < K; ++i) {
      PRNN_UNROLL for (int j = 0; j < K; ++j) element.map.jacobian[i][j] = u[i * (K + 1) + j];
      element.map.offset[i] = u[i * (K + 1) + K];
    }
    if (l == 0) {
      C h[K], next[K];
      PRNN_UNROLL for (int i = 0; i < K; ++i) h[i] = load(t.h0 + at.edge(tile.b, i, d));
      apply(element.map, h, next);
      PRNN_UNROLL for (int i = 0; i < K; ++i) element.map.offset[i] = next[i];
    }
    slots[slot] = element;
  });
  barrier();
  tile.for_each_step_fastest([&](int slot, std::int64_t l, std::int64_t d) {
    const Element<C, K> element = slots[slot];
    elements[(tile.b * at.hidden + d) * at.seq_len + l] = element;
  });
}

/// A thread an element: `after` = the compositions of twice `distance` steps, of those of `distance` steps in `before`.
template <class C, int K>
PRNN_KERNEL compose_kernel(std::int64_t count, std::int64_t seq_len, std::int64_t distance, const Element<C, K>* before, Element<C, K>* after) {
  const std::int64_t i = block_index() * thread_count() + thread_index();
  if (i >= count) return;
  Element<C, K> element = before[i];
  if (i % seq_len >= distance) {
    const Element<C, K> earlier = before[i - distance];
    element.map = compose(earlier.map, element.map);
  }
  after[i] = element;
}

/// Offsets of scanned elements -> h, last. *nonfinite: the first position that is not finite.
template <class Scan, class C>
PRNN_KERNEL states_kernel(Layout<Scan> at, StoredRecurrence<C> t, const Element<C, Scan::kState>* elements, std::int64_t* nonfinite) {
  constexpr int K = Scan::kState;
  const TransposedTile<Scan> tile(at);
  auto* const slots = shared_memory<State<C, K>>();
  tile.for_each_step_fastest([&](int slot, std::int64_t l, std::int64_t d) {
    const Element<C, K>& element = elements[(tile.b * at.hidden + d) * at.seq_len + l];
    PRNN_UNROLL for (int i = 0; i < K; ++i) slots[slot].x[i] = element.map.offset[i];
  });
  barrier();
  tile.for_each_channel_fastest([&](int slot, std::int64_t l, std::int64_t d) {
    State<C, K> h = slots[slot];
    if (!all_finite(h.x)) {
      PRNN_UNROLL for (int i = 0; i < K; ++i) h.x[i] = not_a_number<C>();
      atomic_min(nonfinite, at.position(tile.b, l, d));
    }
    store_step(at, t, tile.b, l, d, h.x);
    if (l + 1 == at.seq_len) store_last(at, t, tile.b, d, h.x);
  });
}

#ifndef __CUDACC_RTC__
/// What both share: maps, the scan of a derived class, states.
template <class Scan, class T>
class ScanInMemory : public Run {
 protected:
  using C = compute_t<T>;
  static constexpr int K = Scan::kState;
  using E = Element<C, K>;

 public:
  static constexpr bool kIterates = false;

  void launch(const Tensors& tensors, Stream stream) override {
    const StoredRecurrence<C> t(tensors);
    fill_async(nonfinite_.data(), 0x7f, nonfinite_.bytes(), stream);  // beyond any position
    const auto transposed = [&](auto kernel, std::int64_t slot_bytes, auto... arguments) {
      prnn::PRNN_BACKEND::launch(kernel, TransposedTile<Scan>::blocks(at_), kTileChannels * kTileRows, TransposedTile<Scan>::kSlots * slot_bytes, stream, at_, t, arguments...);
    };
    transposed(&maps_kernel<Scan, C>, sizeof(E), elements_.template as<E>());
    transposed(&states_kernel<Scan, C>, sizeof(State<C, K>), scan(stream), nonfinite_.template as<std::int64_t>());
  }
  Outcome outcome() override {
    std::int64_t first = 0, untouched = 0;
    std::memset(&untouched, 0x7f, sizeof untouched);
    machine_.download(&first, nonfinite_.data(), sizeof first);
    return {.nonfinite = place_of(at_, first == untouched ? kNowhere : first)};
  }

 protected:
  ScanInMemory(const Problem& p, Machine& machine) : at_(layout_of<Scan>(p)), machine_(machine), elements_(machine, element_bytes(p)), nonfinite_(machine, sizeof(std::int64_t)) {}
  static std::int64_t element_bytes(const Problem& p) { return p.batch * p.seq_len * p.hidden * std::int64_t(sizeof(E)); }
  static std::int64_t shared_workspace_bytes(const Problem& p) { return element_bytes(p) + std::int64_t(sizeof(std::int64_t)); }
  std::int64_t count() const { return at_.channels() * at_.seq_len; }
  /// Scans elements_ and says where the result lies.
  virtual const E* scan(Stream stream) = 0;

  const Layout<Scan> at_;
  Machine& machine_;
  const Buffer elements_, nonfinite_;
};

template <class Scan, class T>
class ScanStepwise final : public ScanInMemory<Scan, T> {
  using Base = ScanInMemory<Scan, T>;
  using typename Base::C;
  using typename Base::E;

 public:
  static constexpr const char* kName = "scan_stepwise";
  static constexpr bool kDeterministic = true;
  static std::int64_t workspace_bytes(const Problem& p) { return Base::shared_workspace_bytes(p) + Base::element_bytes(p); }

  ScanStepwise(const Problem& p, Machine& machine) : Base(p, machine), others_(machine, Base::element_bytes(p)) {}
  int launches() const override {
    int passes = 0;
    for (std::int64_t distance = 1; distance < this->at_.seq_len; distance *= 2) ++passes;
    return 2 + passes;
  }

 private:
  const E* scan(Stream stream) override {
    E *before = this->elements_.template as<E>(), *after = others_.template as<E>();
    for (std::int64_t distance = 1; distance < this->at_.seq_len; distance *= 2) {
      prnn::PRNN_BACKEND::launch(&compose_kernel<C, Base::K>, ceil_div(this->count(), kScanThreads), kScanThreads, 0, stream, this->count(), this->at_.seq_len, distance, before,
                                 after);
      std::swap(before, after);
    }
    return before;
  }

  const Buffer others_;
};

template <class Scan, class T>
class Cub final : public ScanInMemory<Scan, T> {
  using Base = ScanInMemory<Scan, T>;
  using typename Base::C;
  using typename Base::E;
  using Library = DeviceScan<C, Base::K>;

 public:
  static constexpr const char* kName = "cub";
  static constexpr bool kDeterministic = false;
  static std::int64_t workspace_bytes(const Problem& p) { return Base::shared_workspace_bytes(p) + Library::bytes(p.batch * p.seq_len * p.hidden); }

  Cub(const Problem& p, Machine& machine) : Base(p, machine), workspace_(machine, Library::bytes(p.batch * p.seq_len * p.hidden)) {}
  int launches() const override { return 2 + Library::kLaunches; }

 private:
  const E* scan(Stream stream) override {
    E* const elements = this->elements_.template as<E>();
    Library::run(workspace_.data(), workspace_.bytes(), elements, this->count(), stream);
    return elements;
  }

  const Buffer workspace_;
};

PRNN_REGISTER_SCAN_SOLVER(ScanStepwise, kDevice);
PRNN_REGISTER_SCAN_SOLVER(Cub, kDevice);

#endif  // __CUDACC_RTC__

}  // namespace prnn::PRNN_BACKEND
