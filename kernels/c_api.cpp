// c_api.cpp: c_api.h over api.hpp: words to problems, exceptions to statuses, and a solver's buffers cut from the caller's workspace.
#include "kernels/c_api.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <new>
#include <string>
#include <vector>

#include "kernels/api.hpp"

namespace prnn {
namespace {

/// A combination that no solver here solves.
struct Undefined : std::runtime_error {
  using std::runtime_error::runtime_error;
};

thread_local std::string last_message;

template <class F>
PrnnStatus guarded(const F& f) {
  const auto failed = [](PrnnStatus status, const char* message) {
    last_message = message;
    return status;
  };
  try {
    f();
    return kPrnnOk;
  } catch (const BadInput& error) {
    return failed(kPrnnBadInput, error.what());
  } catch (const Undefined& error) {
    return failed(kPrnnUndefined, error.what());
  } catch (const OutOfMemory& error) {
    return failed(kPrnnOutOfMemory, error.what());
  } catch (const std::bad_alloc&) {
    return failed(kPrnnOutOfMemory, "the host has no memory left");
  } catch (const std::exception& error) {
    return failed(kPrnnDeviceError, error.what());
  }
}

template <class T>
T& given(T* pointer, const char* what) {
  if (!pointer) throw BadInput(fmt::format("{}: NULL; expected a pointer", what));
  return *pointer;
}

/// word, or the default for NULL, if it is one of known.
std::string word_of(const char* word, const char* otherwise, const char* what, const std::vector<std::string>& known) {
  const std::string chosen = word ? word : otherwise;
  if (std::find(known.begin(), known.end(), chosen) == known.end()) throw BadInput(fmt::format("{}: '{}'; expected {}", what, chosen, fmt::join(known, ", ")));
  return chosen;
}

struct Asked {
  Problem problem;
  std::string solver;
};

Asked asked(const PrnnProblem* from) {
  const PrnnProblem& c = given(from, "problem");
  if (c.size != sizeof c) throw BadInput(fmt::format("problem.size: {}; expected {}", c.size, sizeof c));
  if (!c.cell) throw BadInput("problem.cell: NULL; expected a cell");
  const Op& op = find_op("recurrence");
  Problem p;
  p.cell = word_of(c.cell, "", "problem.cell", op.cells());
  p.pass = word_of(c.pass, "forward", "problem.pass", {"forward", "backward", "both"});
  p.storage = *parse_storage(word_of(c.storage, "f32", "problem.storage", {"f32", "f64", "bf16", "f16"}));
  p.grad = word_of(c.grad, "all", "problem.grad", {"all", "output", "squares"});
  p.gates = word_of(c.gates, "exact", "problem.gates", {"exact", "approx"});
  p.accumulate_da = c.accumulate_da != 0;
  p.batch = c.batch;
  p.seq_len = c.seq_len;
  p.hidden = c.hidden;
  // The largest tensor has a few words a step; beyond this its bytes would not fit 64 bits.
  constexpr double kMostSteps = double(std::numeric_limits<std::int64_t>::max() / 1024);
  for (const auto& [what, extent] : {std::pair{"batch", c.batch}, {"seq_len", c.seq_len}, {"hidden", c.hidden}}) {
    if (extent < 1) throw BadInput(fmt::format("problem.{}: {}; expected at least 1", what, extent));
  }
  if (double(c.batch) * double(c.seq_len) * double(c.hidden) > kMostSteps)
    throw BadInput(fmt::format("problem: {} x {} x {} steps of a channel; expected at most {:.0f}", c.batch, c.seq_len, c.hidden, kMostSteps));
  if (c.iteration_limit < 0 || c.iteration_limit > std::numeric_limits<int>::max())
    throw BadInput(fmt::format("problem.iteration_limit: {}; expected 0 (adaptive) or a count", c.iteration_limit));
  if (c.iteration_limit > 0) p.iteration_limit = int(c.iteration_limit);
  if (const std::string why = op.why_not(p); !why.empty()) throw Undefined(why);
  return {p, word_of(c.solver, "auto", "problem.solver", solver_names())};
}

const Solver& solver_for(const Asked& a, std::string_view device) {
  const Solver* solver = find_solver(a.solver, device, a.problem);
  if (!solver) throw Undefined(fmt::format("{} has no pass {} on {}", a.solver, a.problem.pass, device));
  if (a.problem.iteration_limit && !solver->iterates) throw Undefined(a.solver + " does not iterate, so a fixed count means nothing");
  if (const std::string why = solver->why_not(a.problem); !why.empty()) throw Undefined(why);
  return *solver;
}

constexpr std::int64_t kAlignment = 256;  // of every buffer, as cudaMalloc has it
constexpr std::uintptr_t kTensorAlignment = 16;

/// A machine whose memory is the caller's workspace, cut from its start; without one it only counts what would be cut, and writes nothing.
class Workspace final : public Machine {
 public:
  Workspace(Machine& machine, void* base, std::int64_t bytes) : machine_(machine), base_(static_cast<char*>(base)), bytes_(bytes) {}
  std::int64_t used_bytes() const { return used_; }
  bool counts() const { return base_ == nullptr; }

  void* allocate(std::int64_t bytes) override {
    const std::int64_t at = used_;
    used_ += std::max<std::int64_t>((bytes + kAlignment - 1) / kAlignment, 1) * kAlignment;
    if (counts()) return reinterpret_cast<void*>(kAlignment + at);  // never read or written: an address that is not NULL
    if (used_ > bytes_) throw BadInput(fmt::format("workspace: {} bytes; expected prnn_workspace_bytes()", bytes_));
    return base_ + at;
  }
  void release(void*) noexcept override {}
  void upload(void* to, const void* from_host, std::int64_t bytes) override {
    if (!counts()) machine_.upload(to, from_host, bytes);
  }
  void fill(void* to, unsigned char byte, std::int64_t bytes) override {
    if (!counts()) machine_.fill(to, byte, bytes);
  }
  void copy(void* to, const void* from, std::int64_t bytes) override {
    if (!counts()) machine_.copy(to, from, bytes);
  }

  std::string_view device() const override { return machine_.device(); }
  std::optional<GpuInfo> gpu() const override { return machine_.gpu(); }
  std::int64_t free_bytes() const override { return machine_.free_bytes(); }
  std::int64_t last_level_cache_bytes() const override { return machine_.last_level_cache_bytes(); }
  void download(void* to_host, const void* from, std::int64_t bytes) override { machine_.download(to_host, from, bytes); }
  bool equal(const void* a, const void* b, std::int64_t bytes) override { return machine_.equal(a, b, bytes); }
  Stream stream() override { return machine_.stream(); }
  void synchronise() override { machine_.synchronise(); }
  Sample time(const std::function<void(Stream)>& launch, bool queued) override { return machine_.time(launch, queued); }
  std::optional<double> time_graph(const std::function<void(Stream, int)>& launch, int launches) override { return machine_.time_graph(launch, launches); }
  void spin(std::int64_t steps, Stream stream) override { machine_.spin(steps, stream); }
  void clear_low_bits(void* data, std::int64_t elements, Storage type, int bits, Stream stream) override { machine_.clear_low_bits(data, elements, type, bits, stream); }
  std::optional<double> clock_mhz() override { return machine_.clock_mhz(); }
  double copy_bytes_per_s() override { return machine_.copy_bytes_per_s(); }
  double launch_s() override { return machine_.launch_s(); }

 private:
  Machine& machine_;
  char* const base_;
  const std::int64_t bytes_;
  std::int64_t used_ = 0;
};

struct Named {
  const char* name;
  const void* PrnnTensors::*input;
  void* PrnnTensors::*output;
};
constexpr std::array<Named, 10> kTensors = {{{"u", &PrnnTensors::u, nullptr},
                                             {"a", &PrnnTensors::a, nullptr},
                                             {"h0", &PrnnTensors::h0, nullptr},
                                             {"h", nullptr, &PrnnTensors::h},
                                             {"last", nullptr, &PrnnTensors::last},
                                             {"grad_h", &PrnnTensors::grad_h, nullptr},
                                             {"grad_last", &PrnnTensors::grad_last, nullptr},
                                             {"du", nullptr, &PrnnTensors::du},
                                             {"da", nullptr, &PrnnTensors::da},
                                             {"dh0", nullptr, &PrnnTensors::dh0}}};

void* pointer_of(const PrnnTensors& tensors, const std::string& name) {
  const Named& named = *std::find_if(kTensors.begin(), kTensors.end(), [&](const Named& n) { return n.name == name; });
  return named.output ? tensors.*named.output : const_cast<void*>(tensors.*named.input);
}

/// Whether an input may be absent: it is zero then; or an output: it is written where nobody looks.
bool is_zero_by_default(const TensorSpec& spec) { return spec.name == "h0" || spec.name == "grad_last"; }
bool may_be_unwanted(const TensorSpec& spec) { return spec.name == "last" || spec.name == "dh0"; }

/// The caller's pointers into items; zeros and unwanted stand for those that may be NULL (NULL: none may).
void place(const PrnnTensors* from, std::vector<Tensors::Item>& items, void* zeros, void* unwanted) {
  const PrnnTensors& tensors = given(from, "tensors");
  for (Tensors::Item& item : items) {
    void* data = pointer_of(tensors, item.spec.name);
    if (reinterpret_cast<std::uintptr_t>(data) % kTensorAlignment != 0) throw BadInput(fmt::format("tensors.{}: not aligned to {} bytes", item.spec.name, kTensorAlignment));
    if (!data && is_zero_by_default(item.spec)) data = zeros;
    if (!data && may_be_unwanted(item.spec)) data = unwanted;
    if (!data) throw BadInput(fmt::format("tensors.{}: NULL; expected a pointer", item.spec.name));
    item.data = data;
  }
}

Tensors placed(const Problem& p, const PrnnTensors* from) {
  Tensors tensors;
  for (const TensorSpec& spec : find_op(p.op).tensors(p)) tensors.items.push_back({spec, nullptr});
  place(from, tensors.items, nullptr, nullptr);
  return tensors;
}

}  // namespace
}  // namespace prnn

struct PrnnDevice {
  std::unique_ptr<prnn::Machine> machine;
};

struct PrnnPlan {
  PrnnPlan(prnn::Machine& machine, const prnn::Asked& asked, void* base, std::int64_t bytes)
      : workspace(machine, base, bytes), run(prnn::solver_for(asked, machine.device()).prepare(asked.problem, workspace)), solver(run->solver()) {
    std::int64_t edge = 0;  // of one tensor that may be absent
    for (const prnn::TensorSpec& spec : prnn::find_op(asked.problem.op).tensors(asked.problem)) {
      tensors.items.push_back({spec, nullptr});
      if (prnn::is_zero_by_default(spec) || prnn::may_be_unwanted(spec)) edge = std::max(edge, spec.bytes());
    }
    zeros = workspace.allocate(edge);
    unwanted = workspace.allocate(edge);
    workspace.fill(zeros, 0, edge);
    if (solver.empty()) solver = asked.solver;
    if (!workspace.counts()) workspace.synchronise();  // what the solver has filled is there on any stream
  }

  prnn::Workspace workspace;
  const std::unique_ptr<prnn::Run> run;
  std::string solver;
  prnn::Tensors tensors;
  void *zeros, *unwanted;
};

using namespace prnn;

int prnn_c_api_version(void) { return PRNN_C_API_VERSION; }
const char* prnn_message(void) { return last_message.c_str(); }

PrnnStatus prnn_device_open(const char* device, PrnnDevice** opened) {
  return guarded([&] {
    given(opened, "opened") = nullptr;
    std::vector<std::string> known;
    for (const MachineEntry& entry : machines()) known.push_back(entry.device);
    const std::string name = word_of(&given(device, "device"), "", "device", known);
    for (const MachineEntry& entry : machines()) {
      if (entry.device == name) *opened = new PrnnDevice{entry.open()};
    }
  });
}

void prnn_device_close(PrnnDevice* device) { delete device; }

PrnnStatus prnn_device_rates(PrnnDevice* device, double* copy_bytes_per_s, double* launch_s) {
  return guarded([&] {
    Machine& machine = *given(device, "device").machine;
    given(copy_bytes_per_s, "copy_bytes_per_s") = machine.copy_bytes_per_s();
    given(launch_s, "launch_s") = machine.launch_s();
  });
}

PrnnStatus prnn_sizes(const PrnnProblem* problem, PrnnSizes* sizes) {
  return guarded([&] {
    const Problem p = asked(problem).problem;
    const Op& op = find_op(p.op);
    Problem both = p;
    both.pass = "both";
    *&given(sizes, "sizes") = {};
    for (const TensorSpec& spec : op.tensors(both)) {
      if (spec.name == "u") sizes->inputs = spec.shape[2];
      if (spec.name == "h") sizes->states = spec.shape[2];
      if (spec.name == "a") sizes->weights = spec.shape[0];
      if (spec.name == "grad_h" && p.pass != "forward") sizes->gradients = spec.shape[2];
    }
    sizes->bytes_min = op.bytes_min(p);
    sizes->flops = op.flops(p);
  });
}

PrnnStatus prnn_workspace_bytes(PrnnDevice* device, const PrnnProblem* problem, int64_t* bytes) {
  return guarded([&] { given(bytes, "bytes") = PrnnPlan(*given(device, "device").machine, asked(problem), nullptr, 0).workspace.used_bytes(); });
}

PrnnStatus prnn_plan_create(PrnnDevice* device, const PrnnProblem* problem, void* workspace, int64_t bytes, PrnnPlan** plan) {
  return guarded([&] {
    given(plan, "plan") = nullptr;
    const auto base = reinterpret_cast<std::uintptr_t>(&given(static_cast<char*>(workspace), "workspace"));
    if (base % kAlignment != 0) throw BadInput(fmt::format("workspace: not aligned to {} bytes", kAlignment));
    *plan = new PrnnPlan(*given(device, "device").machine, asked(problem), workspace, bytes);
  });
}

void prnn_plan_destroy(PrnnPlan* plan) { delete plan; }
const char* prnn_plan_solver(const PrnnPlan* plan) { return plan ? plan->solver.c_str() : ""; }

PrnnStatus prnn_launch(PrnnPlan* plan, const PrnnTensors* tensors, void* stream) {
  return guarded([&] {
    PrnnPlan& p = given(plan, "plan");
    place(tensors, p.tensors.items, p.zeros, p.unwanted);
    p.run->launch(p.tensors, stream);
  });
}

PrnnStatus prnn_outcome(PrnnPlan* plan, PrnnOutcome* outcome) {
  return guarded([&] {
    const Outcome from = given(plan, "plan").run->outcome();
    const auto at = from.nonfinite.value_or(std::array<std::int64_t, 3>{-1, -1, -1});
    given(outcome, "outcome") = {.converged = from.converged ? *from.converged : -1,
                                 .iterations = from.iterations.value_or(-1),
                                 .rounds = from.rounds.value_or(-1),
                                 .boundaries = from.boundaries.value_or(-1),
                                 .boundaries_failed = from.boundaries_failed.value_or(-1),
                                 .nonfinite_b = at[0],
                                 .nonfinite_l = at[1],
                                 .nonfinite_d = at[2]};
  });
}

PrnnStatus prnn_draw(PrnnDevice* device, const PrnnProblem* problem, const char* regime, const char* h0, uint64_t seed, const PrnnTensors* tensors) {
  return guarded([&] {
    Problem p = asked(problem).problem;
    p.regime = word_of(regime, "paper", "regime", regime_names());
    p.h0 = word_of(h0, "zero", "h0", {"zero", "random"});
    p.seed = seed;
    const Op& op = find_op(p.op);
    if (const std::string why = op.why_not(p); !why.empty()) throw Undefined(why);
    op.draw(p, *given(device, "device").machine, placed(p, tensors));
  });
}

PrnnStatus prnn_judge(PrnnDevice* device, const PrnnProblem* problem, const PrnnTensors* tensors, PrnnRatios* ratios) {
  return guarded([&] {
    const Problem p = asked(problem).problem;
    const LocalRatios found = find_op(p.op).local_ratios(p, *given(device, "device").machine, placed(p, tensors));
    given(ratios, "ratios") = {.h = found.h.value_or(-1), .du = found.du.value_or(-1), .da = found.da.value_or(-1), .dh0 = found.dh0.value_or(-1)};
  });
}
