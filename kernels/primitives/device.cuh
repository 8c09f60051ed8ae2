// device.cuh: the only door between a kernel and the machine. Two back ends with one vocabulary: CUDA here, and an emulated GPU on the
// host (device_emulated.hpp). Kernels say PRNN_KERNEL, PRNN_DEVICE and the functions below, and live in namespace prnn::PRNN_BACKEND.
#pragma once

#include <cstdint>

#include "kernels/cells/scalar.hpp"

#if !defined(__CUDACC__)

#include "kernels/primitives/device_emulated.hpp"

#else

#ifndef __CUDACC_RTC__  // compiled at run time (kernels/runtime/): no header of CUDA, and no host's side
#include <cuda_runtime.h>

#include "kernels/primitives/graph.cuh"
#endif

#define PRNN_BACKEND cuda
#ifdef __CUDACC_RTC__
#define PRNN_KERNEL __global__ void  // seen by the one who loads it
#else
#define PRNN_KERNEL static __global__ void
#endif
#define PRNN_DEVICE __device__ __forceinline__
#define PRNN_LAUNCH_BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)
#define PRNN_GRID_CONSTANT __grid_constant__

namespace prnn::cuda {

inline constexpr const char* kDevice = "cuda";
inline constexpr unsigned kFullWarp = 0xffffffffu;
inline constexpr int kWarp = 32;

// --- where am I -------------------------------------------------------------------------------------------------------
PRNN_DEVICE int thread_index() { return int(threadIdx.x); }
PRNN_DEVICE int thread_count() { return int(blockDim.x); }
PRNN_DEVICE std::int64_t block_index() { return std::int64_t(blockIdx.x); }
PRNN_DEVICE std::int64_t block_count() { return std::int64_t(gridDim.x); }

// --- block ------------------------------------------------------------------------------------------------------------
PRNN_DEVICE void barrier() { __syncthreads(); }
/// Barrier; true on every thread if any thread said so.
PRNN_DEVICE bool barrier_or(bool predicate) { return __syncthreads_or(predicate); }
/// Dynamic shared memory of the block, 128-byte aligned, uninitialised.
template <class T>
PRNN_DEVICE T* shared_memory() {
  extern __shared__ __align__(128) unsigned char prnn_shared_bytes[];
  return reinterpret_cast<T*>(prnn_shared_bytes);
}

// --- warp: all 32 lanes take part. T is any trivially copyable type of whole 4-byte words -----------------------------
namespace detail {
/// x with each of its words replaced by exchange(word).
template <class T, class Exchange>
PRNN_DEVICE T exchange_words(const T& x, const Exchange& exchange) {
  static_assert(sizeof(T) % 4 == 0);
  T y;
  std::uint32_t words[sizeof(T) / 4];
  memcpy(words, &x, sizeof x);
#pragma unroll
  for (int i = 0; i < int(sizeof(T) / 4); ++i) words[i] = exchange(words[i]);
  memcpy(&y, words, sizeof y);
  return y;
}
}  // namespace detail
template <class T>
PRNN_DEVICE T shuffle_up(const T& x, int delta) {
  return detail::exchange_words(x, [delta](std::uint32_t word) { return __shfl_up_sync(kFullWarp, word, delta); });
}
template <class T>
PRNN_DEVICE T shuffle_xor(const T& x, int mask) {
  return detail::exchange_words(x, [mask](std::uint32_t word) { return __shfl_xor_sync(kFullWarp, word, mask); });
}

/// Waits until all lanes of the warp are here; what they wrote to shared memory is seen by all.
PRNN_DEVICE void warp_barrier() { __syncwarp(); }

// --- global memory ----------------------------------------------------------------------------------------------------
/// Storage -> compute of a value in a register.
PRNN_DEVICE float widen(float x) { return x; }
PRNN_DEVICE double widen(double x) { return x; }
PRNN_DEVICE float widen(Bf16 x) { return __uint_as_float(std::uint32_t(x.bits) << 16); }
PRNN_DEVICE float widen(F16 x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}
/// Read-only data as stored.
PRNN_DEVICE float load_stored(const float* p) { return __ldg(p); }
PRNN_DEVICE double load_stored(const double* p) { return __ldg(p); }
PRNN_DEVICE Bf16 load_stored(const Bf16* p) { return {__ldg(&p->bits)}; }
PRNN_DEVICE F16 load_stored(const F16* p) { return {__ldg(&p->bits)}; }
/// Read-only data, storage -> compute.
template <class T>
PRNN_DEVICE compute_t<T> load(const T* p) {
  return widen(load_stored(p));
}
namespace detail {
PRNN_DEVICE std::uint16_t bf16_bits(float x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  return to_bf16(x).bits;
#else
  std::uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
#endif
}
PRNN_DEVICE std::uint16_t f16_bits(float x) {
  std::uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}
/// Both in a word, the first in its low half.
PRNN_DEVICE unsigned word_of(Bf16, float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  return bf16_bits(low) | unsigned(bf16_bits(high)) << 16;
#else
  unsigned word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
#endif
}
PRNN_DEVICE unsigned word_of(F16, float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  return f16_bits(low) | unsigned(f16_bits(high)) << 16;
#else
  unsigned word;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
#endif
}
}  // namespace detail
/// Compute -> storage, one rounding.
PRNN_DEVICE void store(float* p, float x) { *p = x; }
PRNN_DEVICE void store(double* p, double x) { *p = x; }
PRNN_DEVICE void store(Bf16* p, float x) { p->bits = detail::bf16_bits(x); }
PRNN_DEVICE void store(F16* p, float x) { p->bits = detail::f16_bits(x); }
/// The same for data that will not be read again: it does not displace what will be.
PRNN_DEVICE void store_streaming(float* p, float x) { __stcs(p, x); }
PRNN_DEVICE void store_streaming(double* p, double x) { __stcs(p, x); }
PRNN_DEVICE void store_streaming(Bf16* p, float x) { __stcs(&p->bits, detail::bf16_bits(x)); }
PRNN_DEVICE void store_streaming(F16* p, float x) { __stcs(&p->bits, detail::f16_bits(x)); }
/// p[0] = x, p[1] = y, p at a whole word.
template <class T>
PRNN_DEVICE void store_pair_streaming(T* p, float x, float y) {
  __stcs(reinterpret_cast<unsigned*>(p), detail::word_of(T{}, x, y));
}

// --- asynchronous copies to shared memory -----------------------------------------------------------------------------
/// *shared = *global, of 2, 4, 8 or 16 bytes, landed after wait_copies. 2 bytes cannot be copied asynchronously: they have landed at once.
template <class Word>
PRNN_DEVICE void copy_async(Word* shared, const Word* global) {
  if constexpr (sizeof(Word) == 2) {
    *shared = *global;
  } else if constexpr (sizeof(Word) == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(unsigned(__cvta_generic_to_shared(shared))), "l"(__cvta_generic_to_global(global)) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(unsigned(__cvta_generic_to_shared(shared))), "l"(__cvta_generic_to_global(global)), "n"(int(sizeof(Word)))
                 : "memory");
  }
}
/// Makes one group of this thread's copies since the last commit.
PRNN_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Until at most `under_way` of this thread's groups, the latest, have not landed.
template <int under_way>
PRNN_DEVICE void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(under_way) : "memory");
}

// --- tiles: rectangles of a matrix that one thread copies to shared memory, sm_90 on -----------------------------------
/// In shared memory. A phase ends when all arrivals that it was made for have come and all tiles that they brought have landed; then the next begins.
struct alignas(8) PhaseBarrier {
  std::uint64_t state;
};
/// Matrices [count, rows, columns] in global memory, and how large their tiles are. A kernel takes it as `PRNN_GRID_CONSTANT const TileMap`.
struct TileMap {
  alignas(64) unsigned char map[128];  // a CUtensorMap
  int tile_bytes;
};
namespace detail {
PRNN_DEVICE unsigned shared_address(const void* p) { return unsigned(__cvta_generic_to_shared(p)); }
}  // namespace detail
/// By one thread, before a barrier() that all pass who use it.
PRNN_DEVICE void start_phases(PhaseBarrier* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(detail::shared_address(barrier)), "r"(arrivals) : "memory");
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  __trap();
#else
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
/// One arrival; what this thread read and wrote before comes before the phase's end.
PRNN_DEVICE void arrive(PhaseBarrier* barrier) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(detail::shared_address(barrier)) : "memory"); }
/// One arrival that brings the tile of matrix `index` whose first element is (row, column) to `shared`, 128-byte aligned, [tile rows, tile columns]; zeros
/// where it is beyond the matrix.
PRNN_DEVICE void arrive_with_tile(PhaseBarrier* barrier, void* shared, const TileMap& from, std::int64_t index, std::int64_t row, std::int64_t column) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  __trap();
#else
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(detail::shared_address(barrier)), "r"(from.tile_bytes) : "memory");
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(detail::shared_address(shared)),
               "l"(&from.map), "r"(int(column)), "r"(int(row)), "r"(int(index)), "r"(detail::shared_address(barrier))
               : "memory");
#endif
}
/// Before the barrier after which another thread stores a tile that this one has written to.
PRNN_DEVICE void show_to_tiles() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
/// The way back, of what lies inside the matrix; `shared` has been read after wait_for_stored_tiles. Makes a group of its own.
PRNN_DEVICE void store_tile(const TileMap& to, std::int64_t index, std::int64_t row, std::int64_t column, const void* shared) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  __trap();
#else
  asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%1, %2, %3}], [%4];" ::"l"(&to.map), "r"(int(column)), "r"(int(row)), "r"(int(index)),
               "r"(detail::shared_address(shared))
               : "memory");
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
#endif
}
/// Until all that this thread has stored is in memory; a barrier shows it to the block.
PRNN_DEVICE void finish_stored_tiles() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  __trap();
#else
  asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
#endif
}
/// Until at most `under_way` of this thread's groups, the latest, have not been read.
template <int under_way>
PRNN_DEVICE void wait_for_stored_tiles() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  __trap();
#else
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(under_way) : "memory");
#endif
}
/// Until the phase of that parity (0: the first, third, ..) has ended, not an earlier one of the same.
PRNN_DEVICE void wait_phase(PhaseBarrier* barrier, int parity) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  __trap();
#else
  unsigned ended;
  do
    asm volatile("{\n\t.reg .pred p;\n\tmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n\tselp.u32 %0, 1, 0, p;\n\t}"
                 : "=r"(ended)
                 : "r"(detail::shared_address(barrier)), "r"(parity)
                 : "memory");
  while (!ended);
#endif
}

// --- atomics on global memory -----------------------------------------------------------------------------------------
PRNN_DEVICE void atomic_min(std::int64_t* p, std::int64_t x) { atomicMin(reinterpret_cast<long long*>(p), static_cast<long long>(x)); }
PRNN_DEVICE void atomic_min(int* p, int x) { atomicMin(p, x); }
PRNN_DEVICE void atomic_max(int* p, int x) { atomicMax(p, x); }
PRNN_DEVICE void atomic_or(int* p, int x) { atomicOr(p, x); }
PRNN_DEVICE void atomic_add(std::int64_t* p, std::int64_t x) { atomicAdd(reinterpret_cast<unsigned long long*>(p), static_cast<unsigned long long>(x)); }
/// Maximum of values >= 0; NaN is larger than everything, so a maximum never loses one. *p must hold a value >= 0.
PRNN_DEVICE void atomic_max_magnitude(double* p, double x) {
  atomicMax(reinterpret_cast<unsigned long long*>(p), static_cast<unsigned long long>(__double_as_longlong(x)) & 0x7fffffffffffffffull);
}
/// Of what other threads write meanwhile, each without tearing; nothing is put in order by it.
PRNN_DEVICE int atomic_load(const int* p) { return *static_cast<const volatile int*>(p); }
PRNN_DEVICE void atomic_store(int* p, int x) { *static_cast<volatile int*>(p) = x; }

// --- words that the blocks of a launch show each other, in the order of tickets: only one who has begun is waited for ----
/// The next number of a counter in global memory, from 0 on. It only ever grows.
PRNN_DEVICE std::int64_t take_ticket(std::int64_t* counter) { return std::int64_t(atomicAdd(reinterpret_cast<unsigned long long*>(counter), 1ull)); }
/// Four bytes, and the number of the launch that wrote them: seen together or not at all. In global memory, zero once.
struct alignas(8) TaggedWord {
  std::uint32_t word, tag;
};
PRNN_DEVICE void show_word(TaggedWord* p, TaggedWord x) {
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(__cvta_generic_to_global(p)), "l"(std::uint64_t(x.tag) << 32 | x.word) : "memory");
}
PRNN_DEVICE TaggedWord see_word(const TaggedWord* p) {
  std::uint64_t x;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(x) : "l"(__cvta_generic_to_global(p)) : "memory");
  return {std::uint32_t(x), std::uint32_t(x >> 32)};
}
/// Between two looks at a word that is not there yet.
PRNN_DEVICE void wait_for_word() {}

// --- teams: consecutive blocks that run together ----------------------------------------------------------------------
/// Who waits for each other: a block alone, the blocks of a thread-block cluster, blocks of a cooperative launch.
enum class Team { block, cluster, grid };
/// In global memory, zero once; one a team, all of one size; only for Team::grid. It only ever grows: nothing is reset between launches.
struct TeamBarrier {
  unsigned long long arrived;
};
/// Waits for all threads of all blocks of the team; load_shared_by_team then shows what any of them wrote to global memory before,
/// load_from_cluster what they wrote to shared memory.
PRNN_DEVICE void team_barrier(Team team, int team_blocks, TeamBarrier* barrier) {
  if (team == Team::cluster) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
    __trap();  // cannot be launched there
#else
    asm volatile("barrier.cluster.arrive.release;\n\tbarrier.cluster.wait.acquire;" ::: "memory");
#endif
    return;
  }
  __syncthreads();
  if (team == Team::block) return;
  if (threadIdx.x == 0) {
    const auto size = static_cast<unsigned long long>(team_blocks);
    __threadfence();
    const unsigned long long all = (atomicAdd(&barrier->arrived, 1ull) / size + 1) * size;
    unsigned long long arrived;
    do asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(arrived) : "l"(__cvta_generic_to_global(&barrier->arrived)) : "memory");
    while (arrived < all);
  }
  __syncthreads();
}
/// What another block wrote in this launch: from the cache that all blocks share. T: float, double, int, std::int64_t.
template <class T>
PRNN_DEVICE T load_shared_by_team(const T* p) {
  return __ldcg(p);
}
template <class T>
PRNN_DEVICE void store_for_team(T* p, T x) {
  __stcg(p, x);
}
/// Waits for all threads of all blocks of the cluster and orders no memory: for a block that is about to end, after others have read its shared
/// memory. (Before they read it, nothing less than team_barrier will do: without its release they saw old values on an H200.)
PRNN_DEVICE void cluster_farewell() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  __trap();
#else
  asm volatile("barrier.cluster.arrive.relaxed;\n\tbarrier.cluster.wait.acquire;" ::: "memory");
#endif
}
/// What lies in the shared memory of block `rank` of my cluster where p lies in mine. The value is to be used before cluster_farewell(): until
/// then it may be under way. T: as above.
template <class T>
PRNN_DEVICE T load_from_cluster(const T* p, int rank) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  __trap();
  return *p;
#else
  unsigned theirs;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(theirs) : "r"(unsigned(__cvta_generic_to_shared(p))), "r"(rank));
  std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t> word;
  if constexpr (sizeof(T) == 4) {
    asm volatile("ld.shared::cluster.b32 %0, [%1];" : "=r"(word) : "r"(theirs) : "memory");
  } else {
    asm volatile("ld.shared::cluster.b64 %0, [%1];" : "=l"(word) : "r"(theirs) : "memory");
  }
  T x;
  memcpy(&x, &word, sizeof x);
  return x;
#endif
}

}  // namespace prnn::cuda

#ifndef __CUDACC_RTC__
#include "kernels/primitives/launch.cuh"
#endif

#endif
