// lost_gpu.test.cpp: a kernel that reads where no memory is takes its process's GPU with it. Its case gets a row that says so, and a fresh process does the rest. Needs a GPU (ctest gpu.lost).
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "harness/program_test.hpp"
#include "harness/sweep.hpp"
#include "kernels/ops/testing.hpp"

namespace prnn {
namespace {

/// seq_fused, with its inputs where nothing is.
class StrayRun : public Run {
 public:
  explicit StrayRun(std::unique_ptr<Run> inner) : inner_(std::move(inner)) {}
  int launches() const override { return inner_->launches(); }
  void launch(const Tensors& tensors, Stream stream) override {
    Tensors stray = tensors;
    for (Tensors::Item& item : stray.items) {
      if (item.spec.name == "u") item.data = reinterpret_cast<void*>(std::uintptr_t{1} << 20);
    }
    inner_->launch(stray, stream);
  }
  Outcome outcome() override { return inner_->outcome(); }

 private:
  std::unique_ptr<Run> inner_;
};

Solver stray() {
  return {.name = "stray",
          .device = "cuda",
          .cell = "gru_diag",
          .storage = Storage::f32,
          .why_not = [](const Problem&) { return std::string(); },
          .workspace_bytes = [](const Problem&) { return std::int64_t{0}; },
          .prepare = [](const Problem& problem, Machine& machine) -> std::unique_ptr<Run> {
            return std::make_unique<StrayRun>(find_solver("seq_fused", "cuda", problem)->prepare(problem, machine));
          }};
}

TEST(LostGpu, EndsItsCaseAndAFreshProcessDoesTheRest) {
  constexpr int kDone = 0, kNoGpu = 64;
  const std::filesystem::path path = std::filesystem::temp_directory_path() / ("prnn-lost-gpu-" + std::to_string(getpid()));
  const auto say = [&](const std::string& line) { std::ofstream(path, std::ios::app) << line << "\n"; };
  std::filesystem::remove(path);
  solvers().push_back(stray());
  const int code = supervise(60, [&](const Attempt& attempt) {
    std::unique_ptr<Machine> machine;
    try {
      machine = testing::open_machine("cuda");
    } catch (const DeviceError& error) {
      say(error.what());
      return kNoGpu;
    }
    const Suite suite =
        parse_suite("lost.toml", "title = \"t\"\ncells = [\"gru_diag\"]\nsolvers = [\"stray\", \"seq_fused\"]\nhidden = [32, 64]\nseq_len = [40]\nmetrics = [\"newton\"]\n");
    SweepOptions options;
    options.time = false;
    options.in_flight = [&](const std::string& case_id) { attempt.note.set(case_id); };
    options.ended = attempt.ended;
    const SweepResult result =
        sweep(suite, make_plan(suite, {.device = "cuda", .free_bytes = machine->free_bytes(), .last_level_cache_bytes = machine->last_level_cache_bytes()}), *machine, options);
    for (const CaseRecord& row : result.rows)
      say(row.case_id.substr(row.case_id.rfind('/') + 1) + " " + std::string(to_string(row.status)) + (row.reason.find("illegal") == std::string::npos ? "" : " illegal"));
    return kDone;
  });
  solvers().pop_back();
  const std::string said = content(path);
  std::filesystem::remove(path);
  if (code == kNoGpu) GTEST_SKIP() << "no GPU: " << said;
  EXPECT_EQ(code, kDone);
  const std::string a_group = "stray error illegal\nseq_fused ok\n";
  EXPECT_EQ(said, a_group + a_group);
}

}  // namespace
}  // namespace prnn
