// device.cuh: the only door between a kernel and the machine. Two back ends with one vocabulary: CUDA here, and an emulated GPU on the
// host (device_emulated.hpp). Kernels say PRNN_KERNEL, PRNN_DEVICE and the functions below, and live in namespace prnn::PRNN_BACKEND.
#pragma once

#include <cstdint>

#include "kernels/cells/scalar.hpp"

#if !defined(__CUDACC__)

#include "kernels/primitives/device_emulated.hpp"

#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kernels/primitives/cuda_check.hpp"
#include "kernels/primitives/graph.cuh"

#define PRNN_BACKEND cuda
#define PRNN_KERNEL static __global__ void
#define PRNN_DEVICE __device__ __forceinline__
#define PRNN_LAUNCH_BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)

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
/// Dynamic shared memory of the block, 16-byte aligned, uninitialised.
template <class T>
PRNN_DEVICE T* shared_memory() {
  extern __shared__ __align__(16) unsigned char prnn_shared_bytes[];
  return reinterpret_cast<T*>(prnn_shared_bytes);
}

// --- warp: all 32 lanes take part. T is any trivially copyable type of whole 4-byte words -----------------------------
template <class T>
PRNN_DEVICE T shuffle_up(const T& x, int delta) {
  static_assert(sizeof(T) % 4 == 0);
  T y;
  std::uint32_t words[sizeof(T) / 4];
  memcpy(words, &x, sizeof x);
#pragma unroll
  for (int i = 0; i < int(sizeof(T) / 4); ++i) words[i] = __shfl_up_sync(kFullWarp, words[i], delta);
  memcpy(&y, words, sizeof y);
  return y;
}
template <class T>
PRNN_DEVICE T shuffle_xor(const T& x, int mask) {
  static_assert(sizeof(T) % 4 == 0);
  T y;
  std::uint32_t words[sizeof(T) / 4];
  memcpy(words, &x, sizeof x);
#pragma unroll
  for (int i = 0; i < int(sizeof(T) / 4); ++i) words[i] = __shfl_xor_sync(kFullWarp, words[i], mask);
  memcpy(&y, words, sizeof y);
  return y;
}

// --- global memory ----------------------------------------------------------------------------------------------------
/// Storage -> compute of a value in a register.
PRNN_DEVICE float widen(float x) { return x; }
PRNN_DEVICE double widen(double x) { return x; }
PRNN_DEVICE float widen(Bf16 x) { return __uint_as_float(std::uint32_t(x.bits) << 16); }
PRNN_DEVICE float widen(F16 x) { return __half2float(__ushort_as_half(x.bits)); }
/// Read-only data as stored: a prefetch that converted would wait for its data.
PRNN_DEVICE float load_stored(const float* p) { return __ldg(p); }
PRNN_DEVICE double load_stored(const double* p) { return __ldg(p); }
PRNN_DEVICE Bf16 load_stored(const Bf16* p) { return {__ldg(&p->bits)}; }
PRNN_DEVICE F16 load_stored(const F16* p) { return {__ldg(&p->bits)}; }
/// Read-only data, storage -> compute.
template <class T>
PRNN_DEVICE compute_t<T> load(const T* p) {
  return widen(load_stored(p));
}
/// Compute -> storage, one rounding.
PRNN_DEVICE void store(float* p, float x) { *p = x; }
PRNN_DEVICE void store(double* p, double x) { *p = x; }
PRNN_DEVICE void store(Bf16* p, float x) { p->bits = __bfloat16_as_ushort(__float2bfloat16_rn(x)); }
PRNN_DEVICE void store(F16* p, float x) { p->bits = __half_as_ushort(__float2half_rn(x)); }

// --- atomics on global memory -----------------------------------------------------------------------------------------
PRNN_DEVICE void atomic_min(std::int64_t* p, std::int64_t x) { atomicMin(reinterpret_cast<long long*>(p), static_cast<long long>(x)); }
PRNN_DEVICE void atomic_min(int* p, int x) { atomicMin(p, x); }
PRNN_DEVICE void atomic_max(int* p, int x) { atomicMax(p, x); }
PRNN_DEVICE void atomic_or(int* p, int x) { atomicOr(p, x); }
/// Maximum of values >= 0; NaN is larger than everything, so a maximum never loses one. *p must hold a value >= 0.
PRNN_DEVICE void atomic_max_magnitude(double* p, double x) {
  atomicMax(reinterpret_cast<unsigned long long*>(p), static_cast<unsigned long long>(__double_as_longlong(x)) & 0x7fffffffffffffffull);
}

// --- launches ---------------------------------------------------------------------------------------------------------
/// Enqueues kernel<<<blocks, threads, shared_bytes, stream>>>(args...); throws DeviceError if it cannot be launched.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), std::int64_t blocks, int threads, std::int64_t shared_bytes, void* stream, Arguments... args) {
  if (blocks < 1 || blocks > 2147483647) throw DeviceError("a launch with " + std::to_string(blocks) + " blocks");  // the cast below would wrap
  if (shared_bytes > 48 * 1024) PRNN_CUDA(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes)));
  kernel<<<unsigned(blocks), unsigned(threads), std::size_t(shared_bytes), static_cast<cudaStream_t>(stream)>>>(Parameters(args)...);
  PRNN_CUDA(cudaGetLastError());
}
/// bytes of `byte` from p on, enqueued.
inline void fill_async(void* p, int byte, std::int64_t bytes, void* stream) { PRNN_CUDA(cudaMemsetAsync(p, byte, std::size_t(bytes), static_cast<cudaStream_t>(stream))); }

}  // namespace prnn::cuda

#endif
