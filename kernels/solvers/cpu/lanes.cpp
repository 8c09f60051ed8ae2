// lanes.cpp: one step of channels side by side in vectors, for every cell and every width of vector.
//   a [kWeights, lane], h [kState, lane], u [count, kInputs, lane] -> h [kState, lane], and every step's [count, kState, lane]
// The compiler makes the vectors, of the cell's one step(): no intrinsics, and no flag or pragma that changes a bit of a result (CMakeLists.txt has
// the flags). A step is a chain of some hundred operations, each waiting for the one before, so several chains have to be under way at once: lanes
// go as many at a time as a vector has bytes, in f32 four vectors whose instructions alternate. `runs`, one byte a lane, makes the compiler do that.
#include "kernels/solvers/cpu/lanes.hpp"

#include "kernels/primitives/adjoint.hpp"

namespace prnn::cpu {
namespace {

/// One lane, without a branch. u [kInputs] and h [kState] lie u_component and h_component apart.
template <bool kProducts, class Cell, class T>
inline void advance_lane(LaneState<Cell, compute_t<T>>& s, const T* u_row, std::int64_t u_component, T* h_row, std::int64_t h_component, int lane) {
  using C = compute_t<T>;
  using Bits = typename prnn::detail::Format<C>::Bits;
  constexpr int K = Cell::kState;
  const auto pick = [](Bits all, C x, C y) {  // of bits: a compiler makes a branch of ?:, and a loop with a branch stays scalar
    return prnn::detail::same_bits<C>(Bits((prnn::detail::same_bits<Bits>(x) & all) | (prnn::detail::same_bits<Bits>(y) & ~all)));
  };
  const Bits runs = Bits(s.runs[lane]);
  C a[Cell::kWeights], u[Cell::kInputs], h[K], next[K];
  for (int k = 0; k < Cell::kWeights; ++k) a[k] = s.a[k][lane];
  for (int i = 0; i < K; ++i) h[i] = s.h[i][lane];
  for (int k = 0; k < Cell::kInputs; ++k) u[k] = to_compute(u_row[k * u_component]);
  guard_inputs<Cell>(u);
  if constexpr (kProducts) {
    C jacobian[K][K], before[K][K];
    step_and_jacobian<Cell>(h, a, u, next, jacobian);
    for (int i = 0; i < K; ++i) {
      for (int j = 0; j < K; ++j) before[i][j] = s.product[i][j][lane];
    }
    for (int i = 0; i < K; ++i) {
      for (int j = 0; j < K; ++j) {
        C sum = jacobian[i][0] * before[0][j];
        for (int k = 1; k < K; ++k) sum = jacobian[i][k] * before[k][j] + sum;
        const Bits matters = Bits(0) - Bits(std::fabs(sum) > C(1e-30));  // where a cell forgets, products become subnormal numbers, and those are slow
        s.product[i][j][lane] = pick(matters, sum, C(0));
      }
    }
  } else {
    Cell::step(h, a, u, next);
  }
  for (int i = 0; i < K; ++i) {
    next[i] = pick(runs, next[i], h[i]);
    s.h[i][lane] = next[i];
    h_row[i * h_component] = to_storage<T>(next[i]);
  }
}

template <int kBytes, bool kProducts, class Cell, class T>
inline void advance_lanes(void* state, const void* all_rows, int first, int lanes) {
  LaneState<Cell, compute_t<T>>& s = *static_cast<LaneState<Cell, compute_t<T>>*>(state);
  const Rows<T> rows = *static_cast<const Rows<T>*>(all_rows);
  for (std::int64_t l = 0; l < rows.count; ++l) {
    const T* const u = rows.u + l * rows.u_step;
    T* const h = rows.h + l * rows.h_step;
    for (int group = 0; group < lanes; group += kBytes) {
#pragma omp simd simdlen(kBytes)
      for (int i = group; i < group + kBytes; ++i) advance_lane<kProducts, Cell, T>(s, u + i, rows.u_component, h + i, rows.h_component, first + i);
    }
  }
}

template <int kBytes, class Cell, class C>
inline void lanes_back(void* lanes_state, int lanes) {
  AdjointLanes<Cell, C>& s = *static_cast<AdjointLanes<Cell, C>*>(lanes_state);
  constexpr int K = Cell::kState, W = Cell::kWeights, I = Cell::kInputs;
  for (int group = 0; group < lanes; group += kBytes) {
#pragma omp simd simdlen(kBytes)
    for (int lane = group; lane < group + kBytes; ++lane) {
      C h_before[K], a[W], u[I], g[K], du[I];
      CompensatedSum<C> da[W];
      for (int i = 0; i < K; ++i) h_before[i] = s.h_before[i][lane], g[i] = s.g[i][lane];
      for (int k = 0; k < W; ++k) a[k] = s.a[k][lane], da[k].sum = s.sum[k][lane], da[k].lost = s.lost[k][lane];
      for (int k = 0; k < I; ++k) u[k] = s.u[k][lane];
      adjoint_step<Cell>(h_before, a, u, g, da, du);
      for (int i = 0; i < K; ++i) s.g[i][lane] = g[i];
      for (int k = 0; k < W; ++k) s.sum[k][lane] = da[k].sum, s.lost[k][lane] = da[k].lost;
      for (int k = 0; k < I; ++k) s.du[k][lane] = du[k];
    }
  }
}

// flatten: were one call left inside the loop, there would be no vectors.
template <bool kProducts, class Cell, class T>
[[gnu::flatten]] void advance_16(void* state, const void* rows, int first, int lanes) {
  advance_lanes<16, kProducts, Cell, T>(state, rows, first, lanes);
}
template <class Cell, class C>
[[gnu::flatten]] void back_16(void* lanes_state, int lanes) {
  lanes_back<16, Cell, C>(lanes_state, lanes);
}
#if defined(__x86_64__)
template <class Cell, class C>
[[gnu::flatten, gnu::target("avx2")]] void back_32(void* lanes_state, int lanes) {
  lanes_back<32, Cell, C>(lanes_state, lanes);
}
template <class Cell, class C>
[[gnu::flatten, gnu::target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")]] void back_64(void* lanes_state, int lanes) {
  lanes_back<64, Cell, C>(lanes_state, lanes);
}
template <bool kProducts, class Cell, class T>
[[gnu::flatten, gnu::target("avx2")]] void advance_32(void* state, const void* rows, int first, int lanes) {
  advance_lanes<32, kProducts, Cell, T>(state, rows, first, lanes);
}
template <bool kProducts, class Cell, class T>
[[gnu::flatten, gnu::target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")]] void advance_64(void* state, const void* rows, int first, int lanes) {
  advance_lanes<64, kProducts, Cell, T>(state, rows, first, lanes);
}
#endif

template <bool kProducts, class Cell, class T>
Advance advance_for(int vector_bytes) {
#if defined(__x86_64__)
  if (vector_bytes == 64) return advance_64<kProducts, Cell, T>;
  if (vector_bytes == 32) return advance_32<kProducts, Cell, T>;
#endif
  return advance_16<kProducts, Cell, T>;
}

template <class Cell, class C>
StepBack step_back_for(int vector_bytes) {
#if defined(__x86_64__)
  if (vector_bytes == 64) return back_64<Cell, C>;
  if (vector_bytes == 32) return back_32<Cell, C>;
#endif
  return back_16<Cell, C>;
}

}  // namespace

int machine_vector_bytes() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) return 64;
  if (__builtin_cpu_supports("avx2")) return 32;
#endif
  return 16;
}

Advance advance_of(std::string_view cell, Storage storage, bool products, int vector_bytes) {
  Advance found = nullptr;
  with_recurrence(cell, [&]<class Cell>() {
    StoragesOf<Cell>::for_each([&]<class T>() {
      if (storage != storage_of<T>) return;
      if (!products) found = advance_for<false, Cell, T>(vector_bytes);
      if constexpr (std::is_same_v<T, compute_t<T>> && !is_scan<Cell>) {
        if (products) found = advance_for<true, Cell, T>(vector_bytes);
      }
    });
  });
  return found;
}

StepBack step_back_of(std::string_view cell, Storage compute, int vector_bytes) {
  StepBack found = nullptr;
  AllCells::for_each([&]<class Cell>() {
    StoragesOf<Cell>::for_each([&]<class T>() {
      if constexpr (std::is_same_v<T, compute_t<T>>) {
        if (cell == Cell::name && compute == storage_of<T>) found = step_back_for<Cell, T>(vector_bytes);
      }
    });
  });
  return found;
}

}  // namespace prnn::cpu
