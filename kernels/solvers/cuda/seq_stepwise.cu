// seq_stepwise.cu: one launch a step, a thread a channel: the naive sequential application without a framework around it.
//   u [B, L, kInputs, D], a [kWeights, D], h0 [B, kState, D] -> h [B, L, kState, D], last [B, kState, D]
// h_l = f(h_{l-1}, u_l), Danieli et al. 2025 (arXiv:2510.21450), eq. 2.1. Its time is L launches, whatever the GPU.
#include "kernels/solvers/cuda/sequential.cuh"

namespace prnn::PRNN_BACKEND {

template <class Cell, class T>
class SeqStepwise final : public SequentialRun<Cell, T> {
 public:
  static constexpr const char* kName = "seq_stepwise";
  static std::string why_not(const Problem& p) { return sequential_why_not(kName, p); }

  SeqStepwise(const Problem& p, Machine& machine) : SequentialRun<Cell, T>(p, machine) {}
  int launches() const override { return int(this->at_.seq_len); }
  void launch(const Tensors& tensors, Stream stream) override { this->enqueue_steps(RecurrenceTensors<T>(tensors), stream); }
};

PRNN_REGISTER_SOLVER(SeqStepwise, kDevice);

}  // namespace prnn::PRNN_BACKEND
