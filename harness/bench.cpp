// bench.cpp: see bench.hpp.
#include "harness/bench.hpp"

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <regex>

#include "harness/commands.hpp"
#include "harness/record.hpp"
#include "harness/sweep.hpp"
#include "harness/timer.hpp"

namespace prnn {
namespace {

class Bench {
 public:
  Bench(const Suite& suite, Machine& machine) : suite_(suite), machine_(machine), arena_(machine), scratch_(machine) {}

  void run(const Case& c, benchmark::State& state) {
    CaseRecord row = record_of(c, suite_, machine_.gpu());
    try {
      const Verdict verdict = measure(c, state);
      row.status = verdict.status;
      row.reason = verdict.reason;
    } catch (const OutOfMemory& error) {
      row.status = Status::skipped;
      row.reason = too_large(error.what());
    } catch (const std::exception& error) {
      row.reason = error.what();
    }
    if (row.status != Status::ok) state.SkipWithError(fmt::format("{}: {}", to_string(row.status), row.reason).c_str());
    rows_.push_back(std::move(row));
  }

  int code() const {
    std::vector<std::string> ran;
    for (const CaseRecord& row : rows_) ran.push_back(row.case_id);
    return exit_code(rows_, ran);
  }

 private:
  Verdict measure(const Case& c, benchmark::State& state) {
    const Op& op = find_op(c.problem.op);
    BufferSets buffers(arena_, scratch_, op.tensors(c.problem), c.sets, c.cache == "hot");
    const std::unique_ptr<Run> run = find_solver(c.solver, c.device, c.problem)->prepare(c.problem, machine_);
    const double start_s = steady_now_s();
    op.draw(c.problem, machine_, buffers.first());
    poison(machine_, buffers.first());
    run->launch(buffers.first(), machine_.stream());
    machine_.synchronise();
    ErrorReport errors;
    errors.ratio_local = op.ratio_local(c.problem, machine_, buffers.first());
    if (Verdict verdict = judge_outcome(run->outcome(), errors, c.expect); verdict.status != Status::ok) return verdict;
    buffers.replicate();
    const bool queued = run->launches() <= kMaxQueuedLaunches;
    for (auto _ : state) {
      const Tensors tensors = buffers.set(buffers.next());
      state.SetIterationTime(machine_.time([&](Stream stream) { run->launch(tensors, stream); }, queued).time_s);
      if (steady_now_s() - start_s > suite_.limits.case_s) return {Status::timeout, fmt::format("limits.case_s = {} was spent", suite_.limits.case_s)};
    }
    state.SetBytesProcessed(state.iterations() * op.bytes_min(c.problem));
    state.counters["launches"] = run->launches();
    return {};
  }

  const Suite& suite_;
  Machine& machine_;
  Arena arena_, scratch_;
  std::vector<CaseRecord> rows_;
};

/// Refuses what the library would answer with the end of the program, or with nothing run and no error.
void check_flags(const std::vector<std::string>& flags) {
  for (const std::string& flag : flags) {
    const std::size_t equals = flag.find('=');
    if (equals == std::string::npos) continue;
    const std::string name = flag.substr(0, equals), value = flag.substr(equals + 1);
    const auto expect = [&](bool good, const char* expected) {
      if (!good) throw BadInput(fmt::format("prnn bench: {}: expected {}", flag, expected));
    };
    if (name == "--benchmark_format" || name == "--benchmark_out_format") {
      expect(value == "console" || value == "json" || value == "csv", "console, json or csv");
    } else if (name == "--benchmark_out") {
      expect(std::ofstream(value, std::ios::app).is_open(), "a file that can be written");
    } else if (name == "--benchmark_filter") {
      try {
        std::regex(value, std::regex::extended);
      } catch (const std::regex_error&) {
        expect(false, "a regular expression");
      }
    }
  }
}

}  // namespace

int bench(const Suite& suite, const std::vector<Group>& groups, Machine& machine, const std::vector<std::string>& flags, benchmark::BenchmarkReporter* reporter) {
  check_flags(flags);
  std::vector<std::string> words = {"prnn bench"};
  words.insert(words.end(), flags.begin(), flags.end());
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  int count = static_cast<int>(arguments.size());
  arguments.push_back(nullptr);
  benchmark::Initialize(&count, arguments.data());
  if (count > 1) throw BadInput(fmt::format("prnn bench: unknown argument '{}'; expected a flag of Google Benchmark, see prnn bench --help", arguments[1]));

  Bench bench(suite, machine);
  std::size_t registered = 0;
  for (const Group& group : groups) {
    for (const Case& c : group.cases) {
      if (!c.skip.empty()) continue;
      ++registered;
      benchmark::RegisterBenchmark(c.case_id.c_str(), [&bench, &c](benchmark::State& state) { bench.run(c, state); })
          ->UseManualTime()
          ->Iterations(kMinSamples)
          ->Unit(benchmark::kMicrosecond);
    }
  }
  const std::size_t matched = benchmark::RunSpecifiedBenchmarks(reporter);
  benchmark::ClearRegisteredBenchmarks();
  if (registered && !matched) throw BadInput(fmt::format("prnn bench: --benchmark_filter matches none of the {} cases of {}", registered, suite.path));
  return bench.code();
}

int bench_command(const std::vector<std::string>& arguments) {
  std::string path, device = "auto";
  std::vector<std::string> flags;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    if (word == "--device" && i + 1 < arguments.size()) device = arguments[++i];
    else if (word.starts_with("--device=")) device = word.substr(9);
    else if (word.starts_with("-")) flags.push_back(word);
    else if (path.empty()) path = word;
    else throw BadInput(fmt::format("prnn bench: unexpected argument '{}'; expected one suite", word));
  }
  const Suite suite = load_suite(path.empty() ? (home_directory() / "suites" / "quick.toml").string() : path);
  const std::unique_ptr<Machine> machine = open_machine(device);
  return bench(suite,
               make_plan(suite, {.device = std::string(machine->device()), .free_bytes = machine->free_bytes(), .last_level_cache_bytes = machine->last_level_cache_bytes()}),
               *machine, flags);
}

}  // namespace prnn
