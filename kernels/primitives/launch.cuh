// launch.cuh: the host's side of the CUDA back end: tiles of a matrix, kernels compiled at run time, launches.
// Part of device.cuh, which includes it; the emulated twin is in device_emulated.hpp.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <string>

#include "kernels/primitives/cuda_check.hpp"
#include "kernels/runtime/variant.hpp"

namespace prnn::cuda {

/// Tiles [tile_rows, tile_columns] of matrices [count, rows, columns] of numbers as stored; each at most 256; rows of a multiple of 16 bytes from a
/// multiple of 16.
template <class T>
TileMap tile_map(const T* matrices, std::int64_t count, std::int64_t rows, std::int64_t columns, int tile_rows, int tile_columns) {
  static const auto encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found;
    PRNN_CUDA(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found));
    if (found != cudaDriverEntryPointSuccess) throw DeviceError("the driver has no cuTensorMapEncodeTiled");
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  }();
  constexpr CUtensorMapDataType kType = sizeof(T) == 8 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT64 : sizeof(T) == 4 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32 : CU_TENSOR_MAP_DATA_TYPE_UINT16;
  const cuuint64_t extents[] = {cuuint64_t(columns), cuuint64_t(rows), cuuint64_t(count)}, pitch[] = {extents[0] * sizeof(T), extents[0] * extents[1] * sizeof(T)};
  const cuuint32_t tile[] = {cuuint32_t(tile_columns), cuuint32_t(tile_rows), 1}, every[] = {1, 1, 1};
  static_assert(sizeof(TileMap::map) == sizeof(CUtensorMap));
  TileMap result{.map = {}, .tile_bytes = tile_rows * tile_columns * int(sizeof(T))};
  const CUresult code = encode(reinterpret_cast<CUtensorMap*>(result.map), kType, 3, const_cast<T*>(matrices), extents, pitch, tile, every, CU_TENSOR_MAP_INTERLEAVE_NONE,
                               CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (code != CUDA_SUCCESS)
    throw DeviceError("tiles of " + std::to_string(tile_rows) + " x " + std::to_string(tile_columns) + " of " + std::to_string(count) + " matrices of " + std::to_string(rows) +
                      " x " + std::to_string(columns) + ": cuTensorMapEncodeTiled returned " + std::to_string(int(code)));
  return result;
}

// --- launches ---------------------------------------------------------------------------------------------------------
namespace detail {
inline void refuse(const char* what, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value >= least && value <= most) return;
  throw DeviceError("a launch with " + std::to_string(value) + " " + what + ", not " + std::to_string(least) + " to " + std::to_string(most));
}
template <class Kernel>
void allow_shared_memory(Kernel* kernel, std::int64_t bytes) {
  if (bytes > 48 * 1024) PRNN_CUDA(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes)));
}
}  // namespace detail
/// A kernel that NVRTC compiles for this GPU, a cudaKernel_t: the runtime takes it wherever it takes a function of the program. Loaded once.
const void* loaded_kernel(const KernelSource&, int sm);
/// The kernel, now where it was not compiled with the program: in a solver's constructor, not in a launch. Throws DeviceError for what does not compile.
template <class Function>
Function* ready(const Variant<Function>& variant, const Machine& machine) {
  return variant.ahead ? variant.ahead : reinterpret_cast<Function*>(const_cast<void*>(loaded_kernel(variant.source, machine.gpu()->sm)));
}
/// Enqueues kernel<<<blocks, threads, shared_bytes, stream>>>(args...); throws DeviceError if it cannot be launched.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), std::int64_t blocks, int threads, std::int64_t shared_bytes, void* stream, Arguments... args) {
  detail::refuse("blocks", blocks, 1, 2147483647);  // the cast below would wrap
  detail::allow_shared_memory(kernel, shared_bytes);
  const auto enqueue = [&](Parameters... values) {
    void* pointers[] = {static_cast<void*>(&values)..., nullptr};
    PRNN_CUDA(cudaLaunchKernel(reinterpret_cast<const void*>(kernel), dim3(unsigned(blocks)), dim3(unsigned(threads)), pointers, std::size_t(shared_bytes),
                               static_cast<cudaStream_t>(stream)));
  };
  enqueue(Parameters(args)...);
}
/// Blocks of this kernel that the GPU holds at once: a launch of Team::grid may not have more.
template <class... Parameters>
std::int64_t resident_blocks(void (*kernel)(Parameters...), int threads, std::int64_t shared_bytes) {
  detail::allow_shared_memory(kernel, shared_bytes);
  int device = 0, multiprocessors = 0, blocks = 0;
  PRNN_CUDA(cudaGetDevice(&device));
  PRNN_CUDA(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
  PRNN_CUDA(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads, std::size_t(shared_bytes)));
  return std::int64_t(blocks) * multiprocessors;
}
/// As launch(); every team_blocks consecutive blocks are a team, and blocks is a multiple of it.
template <class... Parameters, class... Arguments>
void launch_team(Team team, int team_blocks, void (*kernel)(Parameters...), std::int64_t blocks, int threads, std::int64_t shared_bytes, void* stream, Arguments... args) {
  detail::refuse("blocks", blocks, 1, 2147483647);
  detail::refuse("blocks a team", team_blocks, 1, team == Team::block ? 1 : team == Team::cluster ? 16 : 2147483647);
  if (blocks % team_blocks) throw DeviceError("a launch with " + std::to_string(blocks) + " blocks in teams of " + std::to_string(team_blocks));
  if (team == Team::block) return launch(kernel, blocks, threads, shared_bytes, stream, args...);
  cudaLaunchAttribute attribute{};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(unsigned(blocks));
  config.blockDim = dim3(unsigned(threads));
  config.dynamicSmemBytes = std::size_t(shared_bytes);
  config.stream = static_cast<cudaStream_t>(stream);
  config.attrs = &attribute;
  config.numAttrs = 1;
  if (team == Team::cluster) {
    detail::allow_shared_memory(kernel, shared_bytes);
    if (team_blocks > 8) PRNN_CUDA(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeNonPortableClusterSizeAllowed, 1));
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {unsigned(team_blocks), 1, 1};
    int clusters = 0;  // asked for, because the error of the launch itself names no numbers
    PRNN_CUDA(cudaOccupancyMaxActiveClusters(&clusters, kernel, &config));
    if (clusters < 1)
      throw DeviceError("a launch with clusters of " + std::to_string(team_blocks) + " blocks with " + std::to_string(threads) + " threads and " + std::to_string(shared_bytes) +
                        " bytes of shared memory each: the GPU holds none");
  } else {
    attribute.id = cudaLaunchAttributeCooperative;
    attribute.val.cooperative = 1;
    detail::refuse("blocks that run together", blocks, 1, resident_blocks(kernel, threads, shared_bytes));
  }
  PRNN_CUDA(cudaLaunchKernelEx(&config, kernel, Parameters(args)...));
}
/// bytes of `byte` from p on, enqueued.
inline void fill_async(void* p, int byte, std::int64_t bytes, void* stream) { PRNN_CUDA(cudaMemsetAsync(p, byte, std::size_t(bytes), static_cast<cudaStream_t>(stream))); }

}  // namespace prnn::cuda
