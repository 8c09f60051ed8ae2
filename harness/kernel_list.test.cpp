// kernel_list.test.cpp: rows of `prnn list kernels` from a machine that says what it is told to.
#include "harness/kernel_list.hpp"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "harness/testing.hpp"

namespace prnn {
namespace {

/// A CPU that says of every launch that it starts `uses`.
class TellingMachine : public testing::ScriptedMachine, public KernelTeller {
 public:
  std::vector<KernelUse> uses;
  int asked = 0;
  std::vector<KernelUse> kernels(const std::function<void(Stream)>&) override {
    ++asked;
    return uses;
  }
};

KernelUse use_of(std::string symbol, int threads, std::int64_t dynamic_shared_bytes) {
  return {.symbol = std::move(symbol),
          .launches = 3,
          .blocks = 7,
          .threads = threads,
          .registers = 40,
          .local_bytes = 8,
          .static_shared_bytes = 16,
          .dynamic_shared_bytes = dynamic_shared_bytes,
          .blocks_a_multiprocessor = 5,
          .occupancy = 0.625};
}

TEST(KernelList, NamesAreReadable) {
  EXPECT_EQ(readable_kernel("_ZN4prnn4cuda15assemble_kernelINS_7GruDiagEfEEvNS0_7UnfusedIT_T0_EEib"), "assemble_kernel<GruDiag, float>");
  EXPECT_EQ(readable_kernel("_ZN4prnn4cuda13decide_kernelEPNS0_13UnfusedStatusEi"), "decide_kernel");
  EXPECT_EQ(readable_kernel("_Z1fPFviE"), "f");  // a parameter with parentheses of its own: f(void (*)(int))
  EXPECT_EQ(readable_kernel("a"), "a");          // not "signed char"
}

TEST(KernelList, EverySolverOfTheDeviceIsAskedAtEveryShape) {
  TellingMachine machine;
  machine.uses = {use_of("a", 128, 0)};
  std::set<std::string> asked, there;
  std::size_t exact = 0;
  for (const auto& row : kernels_on(machine, {{1, 2, 3}})) {
    asked.insert(row["solver"]);
    exact += row["gates"] == "exact";
  }
  std::size_t of_the_device = 0;
  for (const Solver& solver : solvers()) {
    if (solver.device != "cpu" || solver.name == "auto") continue;
    there.insert(solver.name);
    ++of_the_device;
  }
  EXPECT_EQ(asked, there);
  EXPECT_LE(exact, of_the_device);
  EXPECT_GE(machine.asked, int(of_the_device));
  const int once = machine.asked;
  kernels_on(machine, {{1, 2, 3}, {2, 5, 4}});
  EXPECT_EQ(machine.asked, 3 * once);
}

TEST(KernelList, AKernelIsListedOnceForEachSizeItIsLaunchedIn) {
  TellingMachine machine;
  machine.uses = {use_of("a", 128, 0), use_of("a", 256, 0), use_of("a", 128, 64), use_of("b", 128, 0), use_of("a", 128, 0)};
  std::map<std::string, std::vector<nlohmann::ordered_json>> rows;  // of a solver, cell and pass
  for (const auto& row : kernels_on(machine, {{1, 2, 3}, {2, 5, 4}})) {
    rows[row["solver"].get<std::string>() + row["cell"].get<std::string>() + row["pass"].get<std::string>()].push_back(row);
  }
  ASSERT_FALSE(rows.empty());
  for (const auto& [name, each] : rows) EXPECT_EQ(each.size(), 4u) << name;
  const auto& row = rows.begin()->second[2];
  EXPECT_EQ(row["name"], "a");
  EXPECT_EQ(row["symbol"], "a");
  EXPECT_EQ(row["batch"], 1);
  EXPECT_EQ(row["hidden"], 2);
  EXPECT_EQ(row["seq_len"], 3);
  EXPECT_EQ(row["launches"], 3);
  EXPECT_EQ(row["blocks"], 7);
  EXPECT_EQ(row["threads"], 128);
  EXPECT_EQ(row["registers"], 40);
  EXPECT_EQ(row["local_bytes"], 8);
  EXPECT_EQ(row["static_shared_bytes"], 16);
  EXPECT_EQ(row["dynamic_shared_bytes"], 64);
  EXPECT_EQ(row["blocks_a_multiprocessor"], 5);
  EXPECT_EQ(row["occupancy"], 0.625);
  Problem problem;
  for (const Op& op : ops()) {
    for (const std::string& cell : op.cells()) {
      if (row["cell"] == cell)
        problem = {.op = op.name, .cell = cell, .pass = row["pass"], .storage = *parse_storage(row["storage"].get<std::string>()), .batch = 1, .hidden = 2, .seq_len = 3};
    }
  }
  EXPECT_EQ(row["bytes_min"], find_op(problem.op).bytes_min(problem));
}

TEST(KernelList, ShapesThatDoNotFitSayWhy) {
  struct Full : TellingMachine {
    void* allocate(std::int64_t) override { throw OutOfMemory("no room"); }
  } machine;
  const auto list = kernels_on(machine, {{1, 2, 3}});
  ASSERT_FALSE(list.empty());
  for (const auto& row : list) {
    EXPECT_EQ(row["why_not"], "no room");
    EXPECT_EQ(row["name"], nullptr);
    EXPECT_FALSE(row.contains("registers"));
  }
  EXPECT_EQ(machine.asked, 0);
}

}  // namespace
}  // namespace prnn
