// graph.cuh: recorded work of the CUDA back end: a graph captured once and replayed, and a loop whose condition the device decides.
// Part of device.cuh, which includes it; the emulated twin is in device_emulated.hpp.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/primitives/cuda_check.hpp"

namespace prnn::cuda {

namespace detail {

struct Destroy {
  void operator()(CUstream_st* stream) const { cudaStreamDestroy(stream); }
  void operator()(CUgraph_st* graph) const { cudaGraphDestroy(graph); }
  void operator()(CUgraphExec_st* executable) const { cudaGraphExecDestroy(executable); }
};
using OwnedGraph = std::unique_ptr<CUgraph_st, Destroy>;
using OwnedExecutable = std::unique_ptr<CUgraphExec_st, Destroy>;

inline OwnedGraph make_graph() {
  cudaGraph_t graph = nullptr;
  PRNN_CUDA(cudaGraphCreate(&graph, 0));
  return OwnedGraph(graph);
}

/// Appends what work(stream) enqueues to graph; the nodes that nothing in it waits for: what follows depends on them.
template <class Work>
std::vector<cudaGraphNode_t> capture_into(cudaGraph_t graph, const Work& work) {
  cudaStream_t created = nullptr;  // an own stream: the one that runs launches is not disturbed
  PRNN_CUDA(cudaStreamCreateWithFlags(&created, cudaStreamNonBlocking));
  const std::unique_ptr<CUstream_st, Destroy> stream(created);
  std::vector<cudaGraphNode_t> last;
  PRNN_CUDA(cudaStreamBeginCaptureToGraph(created, graph, nullptr, nullptr, 0, cudaStreamCaptureModeRelaxed));
  try {
    work(static_cast<void*>(created));
    cudaStreamCaptureStatus status{};
    const cudaGraphNode_t* nodes = nullptr;
    std::size_t count = 0;
    PRNN_CUDA(cudaStreamGetCaptureInfo(created, &status, nullptr, nullptr, &nodes, nullptr, &count));
    last.assign(nodes, nodes + count);
  } catch (...) {
    cudaGraph_t same = nullptr;
    (void)cudaStreamEndCapture(created, &same);
    (void)cudaGetLastError();
    throw;
  }
  cudaGraph_t same = nullptr;
  PRNN_CUDA(cudaStreamEndCapture(created, &same));
  return last;
}

inline OwnedExecutable instantiate(cudaGraph_t graph) {
  cudaGraphExec_t executable = nullptr;
  PRNN_CUDA(cudaGraphInstantiate(&executable, graph, 0));
  return OwnedExecutable(executable);
}

}  // namespace detail

/// What work(stream) enqueues, recorded by the constructor, which runs nothing; launch(stream) replays it. All pointers in it are fixed.
/// On a stream that is itself being captured, launch enqueues the work anew, so that graphs nest.
class CapturedGraph {
 public:
  explicit CapturedGraph(std::function<void(void* stream)> work) : work_(std::move(work)) {
    const detail::OwnedGraph graph = detail::make_graph();
    detail::capture_into(graph.get(), work_);
    executable_ = detail::instantiate(graph.get());
  }
  void launch(void* stream) {
    cudaStreamCaptureStatus status{};
    PRNN_CUDA(cudaStreamIsCapturing(static_cast<cudaStream_t>(stream), &status));
    if (status == cudaStreamCaptureStatusNone) {
      PRNN_CUDA(cudaGraphLaunch(executable_.get(), static_cast<cudaStream_t>(stream)));
    } else {
      work_(stream);
    }
  }

 private:
  std::function<void(void*)> work_;
  detail::OwnedExecutable executable_;
};

using LoopHandle = cudaGraphConditionalHandle;
/// Whether the loop's body runs (again); by one thread of one kernel of its prologue or body.
__device__ __forceinline__ void set_continue(LoopHandle loop, bool value) { cudaGraphSetConditional(loop, value ? 1u : 0u); }

/// prologue(stream, handle) once, then body(stream, handle) while the device says so: true at every launch until set_continue(handle, false).
/// Both are recorded by the constructor, once; the host takes no part in the loop. Not capturable: a graph cannot hold it as a child.
class ConditionalLoop {
 public:
  using Work = std::function<void(void* stream, LoopHandle)>;
  ConditionalLoop(const Work& prologue, const Work& body) {
    const detail::OwnedGraph graph = detail::make_graph();
    LoopHandle handle{};
    PRNN_CUDA(cudaGraphConditionalHandleCreate(&handle, graph.get(), 1, cudaGraphCondAssignDefault));
    const std::vector<cudaGraphNode_t> before = detail::capture_into(graph.get(), [&](void* stream) { prologue(stream, handle); });
    cudaGraphNodeParams loop{};
    loop.type = cudaGraphNodeTypeConditional;
    loop.conditional.handle = handle;
    loop.conditional.type = cudaGraphCondTypeWhile;
    loop.conditional.size = 1;
    cudaGraphNode_t node = nullptr;
    PRNN_CUDA(cudaGraphAddNode(&node, graph.get(), before.data(), nullptr, before.size(), &loop));
    detail::capture_into(loop.conditional.phGraph_out[0], [&](void* stream) { body(stream, handle); });
    executable_ = detail::instantiate(graph.get());
  }
  void launch(void* stream) { PRNN_CUDA(cudaGraphLaunch(executable_.get(), static_cast<cudaStream_t>(stream))); }

 private:
  detail::OwnedExecutable executable_;
};

}  // namespace prnn::cuda
