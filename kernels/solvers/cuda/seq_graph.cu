// seq_graph.cu: the launches of seq_stepwise, captured once in a graph and replayed: what a step costs without the host.
//   u [B, L, kInputs, D], a [kWeights, D], h0 [B, kState, D] -> h [B, L, kState, D], last [B, kState, D]
// h_l = f(h_{l-1}, u_l), Danieli et al. 2025 (arXiv:2510.21450), eq. 2.1.
#include <array>
#include <map>

#include "kernels/solvers/cuda/sequential.cuh"

namespace prnn::PRNN_BACKEND {

template <class Cell, class T>
class SeqGraph final : public SequentialRun<Cell, T> {
 public:
  static constexpr const char* kName = "seq_graph";
  static std::string why_not(const Problem& p) { return sequential_why_not(kName, p); }

  SeqGraph(const Problem& p, Machine& machine) : SequentialRun<Cell, T>(p, machine) {}
  int launches() const override { return int(this->at_.seq_len); }
  bool capturable() const override { return false; }
  /// A graph holds its pointers, so each set of tensors has its own, captured at its first launch: in the warm-up.
  void launch(const Tensors& tensors, Stream stream) override {
    const RecurrenceTensors<T> t(tensors);
    graphs_.try_emplace({t.u, t.a, t.h0, t.h, t.last}, [this, t](Stream captured) { this->enqueue_steps(t, captured); }).first->second.launch(stream);
  }

 private:
  std::map<std::array<const void*, 5>, CapturedGraph> graphs_;
};

PRNN_REGISTER_SOLVER(SeqGraph, kDevice);

}  // namespace prnn::PRNN_BACKEND
