// loaded.cu: kernels that were compiled at run time, brought onto the GPU. Compiled by nvcc alone: it is the CUDA runtime's own business.
#include <map>
#include <mutex>

#include "kernels/primitives/device.cuh"

namespace prnn::cuda {

const void* loaded_kernel(const KernelSource& kernel, int sm) {
  static std::mutex mutex;
  static std::map<std::pair<std::string, std::string>, cudaKernel_t> loaded;  // by expression and user's header, for as long as the process lives
  const std::lock_guard lock(mutex);
  cudaKernel_t& function = loaded[{kernel.expression, kernel.header_content}];
  if (function) return function;
  const CompiledKernel compiled = compile_kernels({kernel}, sm).front();
  if (!compiled.error.empty()) throw DeviceError(kernel.expression + " does not compile: " + compiled.error);
  cudaLibrary_t library = nullptr;
  PRNN_CUDA(cudaLibraryLoadData(&library, compiled.cubin.data(), nullptr, nullptr, 0, nullptr, nullptr, 0));
  PRNN_CUDA(cudaLibraryGetKernel(&function, library, compiled.symbol.c_str()));
  return function;
}

}  // namespace prnn::cuda
