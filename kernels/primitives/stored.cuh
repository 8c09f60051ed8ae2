// stored.cuh: numbers whose storage type is known when a kernel runs: one kernel for all types that are computed in C, where time is not in its arithmetic.
#pragma once

#include "kernels/primitives/channel.cuh"

namespace prnn::PRNN_BACKEND {

/// Numbers in global memory, stored in `storage`, whose compute type is C.
template <class C>
struct Stored {
  void* data;
  Storage storage;

  /// f(the numbers, as a pointer to their own type): one branch for all that f does with them, whose loads then wait together.
  template <class F>
  PRNN_DEVICE void typed(F&& f) const {
    if constexpr (std::is_same_v<C, double>) {
      f(static_cast<double*>(data));
    } else {
      if (storage == Storage::f32) f(static_cast<float*>(data));
      else if (storage == Storage::bf16) f(static_cast<Bf16*>(data));
      else f(static_cast<F16*>(data));
    }
  }
  /// Of read-only data.
  PRNN_DEVICE C at(std::int64_t i) const {
    C x;
    typed([&](const auto* p) { x = load(p + i); });
    return x;
  }
};

/// Pointers of one problem (RecurrenceTensors) of any storage type whose compute type is C.
template <class C>
struct StoredRecurrence {
  Stored<C> u, a, h;  // a.data null: there are no weights
  const C* h0;
  C* last;

#ifndef __CUDACC_RTC__
  explicit StoredRecurrence(const Tensors& t)
      : u(stored(t, "u")), a(t.find("a") ? stored(t, "a") : Stored<C>{nullptr, u.storage}), h(stored(t, "h")), h0(t.data<C>("h0")), last(t.data<C>("last")) {}

 private:
  static Stored<C> stored(const Tensors& t, const char* name) { return {t.at(name).data, t.at(name).spec.type}; }
#endif
};

template <class Cell, class C>
PRNN_DEVICE void load_weights(const Layout<Cell>& at, const Stored<C>& weights, std::int64_t d, C (&a)[Cell::kWeights]) {
  weights.typed([&](const auto* p) { PRNN_UNROLL for (int k = 0; k < Cell::kWeights; ++k) a[k] = k < kStoredWeights<Cell> ? load(p + at.a(k, d)) : C(0); });
}
/// u [kInputs] of one step, input 0 at `first`; not yet guarded.
template <class Cell, class C>
PRNN_DEVICE void load_inputs(const Stored<C>& inputs, std::int64_t first, std::int64_t hidden, C (&u)[Cell::kInputs]) {
  inputs.typed([&](const auto* p) { PRNN_UNROLL for (int k = 0; k < Cell::kInputs; ++k) u[k] = load(p + first + k * hidden); });
}
/// As for RecurrenceTensors.
template <class Cell, class C>
PRNN_DEVICE void load_start(const Layout<Cell>& at, const StoredRecurrence<C>& t, std::int64_t b, std::int64_t d, const C (&a)[Cell::kWeights], C (&h)[Cell::kState]) {
  PRNN_UNROLL for (int i = 0; i < Cell::kState; ++i) h[i] = load(t.h0 + at.edge(b, i, d));
  guard_start<Cell>(a, h);
}
template <class Cell, class C>
PRNN_DEVICE void store_step(const Layout<Cell>& at, const StoredRecurrence<C>& t, std::int64_t b, std::int64_t l, std::int64_t d, const C (&h)[Cell::kState]) {
  t.h.typed([&](auto* p) { PRNN_UNROLL for (int i = 0; i < Cell::kState; ++i) store(p + at.h(b, l, i, d), h[i]); });
}
template <class Cell, class C>
PRNN_DEVICE void store_last(const Layout<Cell>& at, const StoredRecurrence<C>& t, std::int64_t b, std::int64_t d, const C (&h)[Cell::kState]) {
  PRNN_UNROLL for (int i = 0; i < Cell::kState; ++i) t.last[at.edge(b, i, d)] = h[i];
}

/// Pointers of one problem for a kernel whose time is not in its arithmetic: compiled once a cell or compute type, it chooses the storage type when it runs.
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

}  // namespace prnn::PRNN_BACKEND
