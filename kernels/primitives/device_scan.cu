// device_scan.cu: the device-wide scan of CUB, compiled once for all solvers that use it; emulated, one thread in its place.
#include "kernels/primitives/device_scan.cuh"

#if defined(__CUDACC__)
#include <cub/device/device_scan.cuh>
#endif

namespace prnn::PRNN_BACKEND {

#if defined(__CUDACC__)
template <class C, int K>
std::int64_t DeviceScan<C, K>::bytes(std::int64_t count) {
  std::size_t bytes = 0;
  using E = Element<C, K>;
  PRNN_CUDA(cub::DeviceScan::InclusiveScan(nullptr, bytes, static_cast<E*>(nullptr), static_cast<E*>(nullptr), ComposeSegments{}, count));
  return std::int64_t(bytes);
}
template <class C, int K>
void DeviceScan<C, K>::run(void* workspace, std::int64_t workspace_bytes, Element<C, K>* elements, std::int64_t count, Stream stream) {
  std::size_t bytes = std::size_t(workspace_bytes);
  PRNN_CUDA(cub::DeviceScan::InclusiveScan(workspace, bytes, elements, elements, ComposeSegments{}, count, static_cast<cudaStream_t>(stream)));
}
#else
template <class E>
PRNN_KERNEL scan_kernel(E* elements, std::int64_t count) {
  for (std::int64_t i = 1; i < count; ++i) {
    const E both = ComposeSegments{}(elements[i - 1], elements[i]);
    elements[i] = both;
  }
}
template <class C, int K>
std::int64_t DeviceScan<C, K>::bytes(std::int64_t) {
  return 1;
}
template <class C, int K>
void DeviceScan<C, K>::run(void*, std::int64_t, Element<C, K>* elements, std::int64_t count, Stream stream) {
  launch(&scan_kernel<Element<C, K>>, 1, 1, 0, stream, elements, count);
}
#endif

template struct DeviceScan<float, 1>;
template struct DeviceScan<float, 2>;
template struct DeviceScan<double, 1>;
template struct DeviceScan<double, 2>;

}  // namespace prnn::PRNN_BACKEND
