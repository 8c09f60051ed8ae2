// bench.test.cpp: a suite as Google Benchmarks, its JSON read back.
#include "harness/bench.hpp"

#include <benchmark/benchmark.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "harness/testing.hpp"
#include "harness/timer.hpp"

namespace prnn {
namespace {

const Suite& suite() {
  static const Suite s = parse_suite(
      "bench.toml", "title = \"t\"\ncells = [\"gru_diag\"]\nsolvers = [\"seq_fused\", \"newton_fused\"]\nhidden = [3]\nseq_len = [50]\niteration_limit = [\"adaptive\", 1]\n");
  return s;
}

struct BenchTest : ::testing::Test {
  testing::ScriptedMachine machine;
  int code = -1;

  nlohmann::json run(const std::string& filter) {
    machine.launch_time_s = 2e-3;
    const std::vector<Group> groups = make_plan(suite(), {.last_level_cache_bytes = 1000});
    std::ostringstream out, errors;
    benchmark::JSONReporter reporter;
    reporter.SetOutputStream(&out);
    reporter.SetErrorStream(&errors);
    code = bench(suite(), groups, machine, {"--benchmark_filter=" + filter}, &reporter);
    return nlohmann::json::parse(out.str())["benchmarks"];
  }
};

TEST_F(BenchTest, ReportsTheMachinesTimeOverAFixedNumberOfIterations) {
  const nlohmann::json rows = run("adaptive");
  ASSERT_EQ(rows.size(), 2u);
  for (const auto& row : rows) {
    EXPECT_NEAR(row["real_time"].get<double>(), 2000, 2000 * kMinSamples * 0x1p-53);  // microseconds; the library sums and divides
    EXPECT_EQ(row["time_unit"], "us");
    EXPECT_EQ(row["iterations"], kMinSamples);
    EXPECT_NEAR(row["bytes_per_second"].get<double>(), 4 * 50 * 3 * 4 / 2e-3, 1e-9 * 4 * 50 * 3 * 4 / 2e-3);
    EXPECT_FALSE(row.contains("error_occurred"));
  }
  EXPECT_NE(rows[0]["name"].get<std::string>().find("seq_fused"), std::string::npos);
  EXPECT_EQ(machine.timed_launches, 2 * kMinSamples);
  EXPECT_EQ(code, 0);
}

TEST_F(BenchTest, ACaseThatIsWrongIsAnErrorAndNotTimed) {
  const nlohmann::json rows = run("/1/rotating/newton_fused");  // one Newton step is not enough
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_TRUE(rows[0]["error_occurred"]);
  EXPECT_NE(rows[0]["error_message"].get<std::string>().find("wrong: "), std::string::npos);
  EXPECT_EQ(machine.timed_launches, 0);
  EXPECT_EQ(code, 2);
}

TEST_F(BenchTest, AnUnknownFlagIsBadInput) { EXPECT_THROW(bench(suite(), {}, machine, {"--benchmark_no_such_flag"}), BadInput); }

TEST_F(BenchTest, WhatTheLibraryWouldEndTheProgramForIsBadInput) {
  for (const char* flag : {"--benchmark_format=foo", "--benchmark_out_format=foo", "--benchmark_out=/no/such/folder/x", "--benchmark_filter=["})
    EXPECT_THROW(bench(suite(), {}, machine, {flag}), BadInput) << flag;
  EXPECT_THROW(run("no such case"), BadInput);
}

}  // namespace
}  // namespace prnn
