// adjoint.cu: see adjoint.cuh.
#include "kernels/primitives/adjoint.cuh"

namespace prnn::PRNN_BACKEND {
namespace {

template <class C>
PRNN_KERNEL combine_batch_kernel(std::int64_t batch, std::int64_t weights, const CompensatedSum<C>* sums, bool accumulate, C* da) {
  const std::int64_t i = block_index() * thread_count() + thread_index();
  if (i < weights) combine_batch(batch, weights, sums, i, accumulate, da);
}

template <class C>
void combine(std::int64_t batch, std::int64_t weights, const CompensatedSum<C>* sums, bool accumulate, C* da, void* stream) {
  constexpr int kThreads = 64;
  launch(&combine_batch_kernel<C>, ceil_div(weights, kThreads), kThreads, 0, stream, batch, weights, sums, accumulate, da);
}

}  // namespace

void combine_batch_on(std::int64_t batch, std::int64_t weights, const CompensatedSum<float>* sums, bool accumulate, float* da, void* stream) {
  combine(batch, weights, sums, accumulate, da, stream);
}
void combine_batch_on(std::int64_t batch, std::int64_t weights, const CompensatedSum<double>* sums, bool accumulate, double* da, void* stream) {
  combine(batch, weights, sums, accumulate, da, stream);
}

}  // namespace prnn::PRNN_BACKEND
