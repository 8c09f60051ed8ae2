// seq_graph.cu: the launches of seq_stepwise, captured once in a graph and replayed: what a step costs without the host.
//   tensors: those of seq_stepwise
// h_l = f(h_{l-1}, u_l), Danieli et al. 2025 (arXiv:2510.21450), eq. 2.1.
#include <map>
#include <vector>

#include "kernels/primitives/device.cuh"
#include "kernels/primitives/policy.hpp"
#include "kernels/primitives/register.hpp"

namespace prnn::PRNN_BACKEND {

template <class Cell, class T>
class SeqGraph final : public Run {
 public:
  static constexpr const char* kName = "seq_graph";
  static constexpr bool kIterates = false, kDeterministic = true;
  static std::int64_t workspace_bytes(const Problem& p) { return stepwise(p).workspace_bytes(p); }
  static PolicySpace space() { return sequential_space(); }

  SeqGraph(const Problem& p, Machine& machine) : steps_(stepwise(p).prepare(p, machine)) {}
  Policy policy() const override { return steps_->policy(); }
  int launches() const override { return steps_->launches(); }
  bool capturable() const override { return false; }
  /// A graph holds its pointers, so each set of tensors has its own, captured at its first launch: in the warm-up.
  void launch(const Tensors& tensors, Stream stream) override {
    std::vector<const void*> pointers;
    for (const Tensors::Item& item : tensors.items) pointers.push_back(item.data);
    graphs_.try_emplace(pointers, [this, tensors](Stream captured) { steps_->launch(tensors, captured); }).first->second.launch(stream);
  }
  Outcome outcome() override { return steps_->outcome(); }

 private:
  static const Solver& stepwise(const Problem& p) { return *find_solver("seq_stepwise", kDevice, p); }

  const std::unique_ptr<Run> steps_;
  std::map<std::vector<const void*>, CapturedGraph> graphs_;
};

PRNN_REGISTER_SOLVER(SeqGraph, kDevice);

}  // namespace prnn::PRNN_BACKEND
