// selftest.cpp: `prnn selftest`: switches every seeded fault on, one at a time, and shows which check catches it. The checks are commands: of the program with the faults
// compiled in, prnn_faults, which stands beside the ordinary one and does all this, and of the project's tests linked with the same objects, prnn_faults_tests.
#include "harness/selftest.hpp"

#include <fmt/format.h>
#include <fnmatch.h>
#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <set>
#include <sstream>
#include <thread>

#include "harness/commands.hpp"
#include "harness/record.hpp"
#include "harness/sweep.hpp"
#include "harness/timer.hpp"
#include "kernels/fault.hpp"
#include "reference/reference.hpp"

namespace prnn {

namespace fs = std::filesystem;

namespace {

constexpr int kWrong = 2, kTimedOut = 124;

using Places = std::map<int, std::vector<std::string>>;

bool is_of_tests(const Check& check) { return std::string_view(check.program) == "prnn_faults_tests"; }

std::vector<std::string> patterns_of(const Check& check) {
  std::istringstream words(check.arguments);
  return {std::istream_iterator<std::string>(words), {}};
}

std::string place_of(const Fault& fault, const Places& places) {
  const auto found = places.find(fault.id);
  return found == places.end() ? "not in the sources" : found->second.front();
}

struct Counts {
  std::ptrdiff_t all, hidden, caught, died;
  explicit Counts(const std::vector<Tried>& tried)
      : all(std::ssize(tried)),
        hidden(std::count_if(tried.begin(), tried.end(), [](const Tried& t) { return t.hidden; })),
        caught(std::count_if(tried.begin(), tried.end(), [](const Tried& t) { return t.by != nullptr; })),
        died(std::count_if(tried.begin(), tried.end(), [](const Tried& t) { return t.died; })) {}
  double percent(std::ptrdiff_t part) const { return 100.0 * static_cast<double>(part) / static_cast<double>(all); }
};

}  // namespace

const std::vector<Check>& checks() {
  static constexpr const char *kProgram = "prnn_faults", *kTests = "prnn_faults_tests";
  static const std::vector<Check> list{
      {"witness", kProgram, "witness reference/testdata/witness/*-start.json --device cpu"},
      {"cells", kTests, "CellEquations.* EveryCell/* LstmJacobian.* Dual.*"},
      {"storage", kTests, "Storage.*"},
      {"layout", kTests, "Offsets/*"},
      {"draws", kTests, "Draws.* Philox.* RecurrenceOp.* RecurrenceOnADevice.DrawsBitwiseWhatTheHostDraws"},
      {"scan", kTests, "AnAffineMap.* TheBlockScan.* TheSegmentedOperator.* -TheBlockScan.*AtEveryLength"},
      {"statistics", kTests,
       "CentreAndSpread.* MedianInterval.* MedianRatio.IsNumerator* MedianRatio.Takes* RelativeHalfWidth.* Plateau.* "
       "ComparedRuns.* ComparedPairs.* FalseDiscoveryControl.* Times.* ClockCycles.* ProgramsThatTookTurns.*"},
      {"record", kTests, "Record.* RecordFile.* Resume.* ExitCode.* Provenance.*"},
      {"sweep", kTests, "SweepTest.* Speedups.* Plan.* Verdicts.* PassBothOfAnyTwo.* TimerTest.* SetsTest.* -*.TheReferenceOfGradientsTakesNoTime*"},
      {"auto", kTests, "MeasuredTable.* PredictedTime.* Ranked.* Choose.*"},
      {"verdict", kTests, "LocalRatio.* ForwardBound.* ForwardVerdict.* MaxOrNan.* ErrorFactor.Nan* SampledChannels.*"},
      {"gradient verdict", kTests, "GradientRatios.* GradientBound.* GradientVerdict.Finds* GradientVerdict.NeverLosesANan GradientVerdict.Sums* LongSums.*"},
      {"truth", kTests, "SequentialTruth.* TrueGradients.* Truncation.* Witness.AgreementIs* Witness.FindsAChangedGradientOfEveryKind"},
      {"split", kTests, "TheSequentialSolvers.AgreeToTheBitAndAtAnySplit TheCpuSequentialSolvers.ContinueAtAnySplit TheCpuSequentialBackwardSolvers.AreTheSameAtASplit"},
      {"not finite", kTests, "EveryCpuSolver.Confines* EveryDeviceSolver.Confines* EveryDeviceSolver.Reports* *.NamesTheFirstNanInTheOrderOfThePass"},
      {"Newton", kTests,
       "ANewtonSolver.CountsLinearSolves ANewtonSolver.DoesNotTake* ANewtonSolver.LeavesAFinishedChannelAlone ANewtonSolver.St* ANewtonSolverAtAFixedCount.* TheCpuNewtonSolver.*"},
      {"shooting, cpu", kTests, "TheCpuShootingSolver.* -TheCpuShootingSolver.GivesTheSameBits*"},
      {"shooting, emulated", kTests, "Shooting.*"},
      {"schedules", kTests, "EveryDeviceSolver.GivesTheSameBitsUnderEverySchedule EveryDeviceBackwardSolver.GivesTheSameBitsUnderEverySchedule"},
      {"forward, cpu", kTests, "EveryCpuSolver.UsesThreads* TheCpuSequentialSolvers.* TheCpuNewtonSolver.*"},
      {"backward, cpu", kTests, "EveryCpuBackwardSolver.AddsToDa TheCpuSequentialBackwardSolvers.* TheCpuSegmentedBackwardSolvers.F*"},
      {"forward, emulated", kTests, "EveryDeviceSolver.IsRightAtSmallShapesUnderEverySchedule EveryDeviceSolver.KnowsASet*"},
      {"backward, emulated", kTests, "EveryDeviceBackwardSolver.AddsToDa EveryDeviceBackwardSolver.IsRightOrSaysSo* ShootingBackward.*"},
      {"verify, cpu", kProgram, "verify suites/selftest.toml --device cpu --no-report --out \"$out\""},
      {"verify, emulated", kProgram, "verify suites/selftest.toml --device emulated --no-report --out \"$out\""},
  };
  return list;
}

std::map<int, std::vector<std::string>> fault_places(const fs::path& root) {
  static const std::regex use("PRNN_FAULT\\((\\d+),"), source("\\.(cpp|hpp|cu|cuh)$"), test("\\.test\\.cpp$");
  std::map<int, std::vector<std::string>> places;
  for (const char* folder : {"kernels", "reference", "harness"}) {
    if (!fs::is_directory(root / folder)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      const std::string path = entry.path().lexically_relative(root).generic_string();
      if (!std::regex_search(path, source) || std::regex_search(path, test)) continue;
      std::ifstream file(entry.path());
      std::string line;
      for (int number = 1; std::getline(file, line); ++number) {
        if (line.find("PRNN_FAULT(") == std::string::npos) continue;
        for (std::sregex_iterator at(line.begin(), line.end(), use), end; at != end; ++at) places[std::stoi((*at)[1])].push_back(fmt::format("{}:{}", path, number));
      }
    }
  }
  return places;
}

std::string pattern_without_test(const std::vector<Check>& checks, const std::string& listing) {
  std::istringstream lines(listing);
  std::vector<std::string> tests;
  std::string suite;
  for (std::string line; std::getline(lines, line);) {
    line = line.substr(0, line.find("  #"));  // the parameter of a test
    if (line.starts_with("  ")) tests.push_back(suite + line.substr(2));
    else suite = line;
  }
  for (const Check& check : checks) {
    if (!is_of_tests(check)) continue;
    for (const std::string& pattern : patterns_of(check)) {
      const auto fits = [&](const std::string& test) { return fnmatch(pattern.c_str() + pattern.starts_with("-"), test.c_str(), 0) == 0; };
      if (std::none_of(tests.begin(), tests.end(), fits)) return fmt::format("check '{}': no test is called {}", check.name, pattern);
    }
  }
  return "";
}

Tried try_checks(const Fault& fault, bool hidden, const std::vector<Check>& checks, const std::function<Ended(const Check&)>& run) {
  Tried tried{.fault = &fault, .hidden = hidden, .by = nullptr};
  std::vector<const Check*> order;
  for (const Check& check : checks) order.insert(check.name == std::string_view(fault.check) ? order.begin() : order.end(), &check);
  for (const Check* check : order) {
    const Ended ended = run(*check);
    tried.time_s += ended.time_s;
    tried.died = tried.died || ended.code >= kTimedOut;
    if (ended.code == 0 || ended.code == kTimedOut) continue;
    tried.by = check;
    break;
  }
  return tried;
}

std::string to_table(const std::vector<Tried>& all, const Places& places) {
  constexpr const char* kLine = "{:>3}  {:<22} {:<83} {:<43} {:<7} {:<18} {:>6}\n";
  std::string text = fmt::format(kLine, "", "layer", "fault", "place", "hidden", "caught by", "s");
  for (const Tried& tried : all) {
    const Fault& fault = *tried.fault;
    text += fmt::format(kLine, fault.id, fault.layer, fault.what, place_of(fault, places), tried.hidden ? "yes" : "no", tried.by ? tried.by->name : "NOT CAUGHT",
                        fmt::format("{:.2f}", tried.time_s));
  }
  const Counts counts(all);
  text += fmt::format("{} of {} hidden: every result of regime paper, f32, one channel, at most 32 steps is within tolerance{}\n", counts.hidden, all.size(),
                      counts.hidden < kFewestHidden ? fmt::format("; expected {} at least", kFewestHidden) : "");
  text += fmt::format("{} of {} caught: {:.0f} %\n", counts.caught, all.size(), counts.percent(counts.caught));
  text += fmt::format("with the checks switched off, the same runs unjudged: {} of {} caught: {:.0f} %\n", counts.died, all.size(), counts.percent(counts.died));
  return text;
}

Json to_json(const std::vector<Tried>& all, const Places& places) {
  Json list = Json::array();
  for (const Tried& tried : all) {
    const Fault& fault = *tried.fault;
    list.push_back({{"id", fault.id},
                    {"layer", fault.layer},
                    {"fault", fault.what},
                    {"place", place_of(fault, places)},
                    {"hidden", tried.hidden},
                    {"check", fault.check},
                    {"caught_by", tried.by ? Json(tried.by->name) : Json(nullptr)},
                    {"died", tried.died},
                    {"time_s", tried.time_s}});
  }
  const Counts counts(all);
  return {{"exit_code", exit_code(all)},
          {"faults", list},
          {"hidden", counts.hidden},
          {"caught", counts.caught},
          {"caught_percent", counts.percent(counts.caught)},
          {"caught_percent_without_checks", counts.percent(counts.died)}};
}

int exit_code(const std::vector<Tried>& all) {
  const Counts counts(all);
  return counts.caught == std::ssize(all) && counts.hidden >= kFewestHidden ? 0 : kWrong;
}

namespace {

fs::path program_folder() { return fs::read_symlink("/proc/self/exe").parent_path(); }

#if !defined(PRNN_FAULTS)

int selftest(bool trivial, bool json) {
  const fs::path program = program_folder() / "prnn_faults";
  if (!fs::exists(program))
    throw BadInput(fmt::format("{}: not built; expected the program with the seeded faults, as ./prnn test or cmake --build {} --target prnn_faults makes it", program.string(),
                               program_folder().string()));
  std::vector<const char*> words{"prnn_faults", "selftest"};
  if (trivial) words.push_back("--trivial");
  if (json) words.push_back("--json");
  words.push_back(nullptr);
  ::execv(program.c_str(), const_cast<char* const*>(words.data()));
  throw DeviceError(program.string() + ": cannot be started");
}

#else

// --- the results that a trivial test would look at ----------------------------------------------------------------------------

struct Trivial {
  Problem problem;
  std::string solver;
};

/// Regime paper, f32, one channel, at most 32 steps, in every cell and pass, of every solver.
std::vector<Trivial> trivial_cases(std::string_view device) {
  std::vector<Trivial> cases;
  for (const std::string& cell : find_op("recurrence").cells()) {
    for (const char* pass : {"forward", "backward"}) {
      for (const std::int64_t seq_len : {1, 2, 7, 32}) {
        for (const std::string& solver : solver_names()) {
          Problem p;
          p.cell = cell;
          p.pass = pass;
          p.hidden = 1;
          p.seq_len = seq_len;
          const Solver* found = find_solver(solver, device, p);
          if (found && found->why_not(p).empty()) cases.push_back({p, solver});
        }
      }
    }
  }
  return cases;
}

/// Drawn and solved with the fault that is on, judged without it: what is wrong with it; empty: nothing.
std::string judged(const Trivial& trivial, Machine& machine, ReferenceCache& reference) {
  const int fault = fault_on;
  const Problem& p = trivial.problem;
  const Op& op = find_op(p.op);
  std::vector<Buffer> buffers;
  Tensors tensors;
  for (const TensorSpec& spec : op.tensors(p)) {
    buffers.emplace_back(machine, spec.bytes());
    tensors.items.push_back({spec, buffers.back().data()});
  }
  poison(machine, tensors);
  op.draw(p, machine, tensors);
  const std::unique_ptr<Run> run = find_solver(trivial.solver, machine.device(), p)->prepare(p, machine);
  run->launch(tensors, machine.stream());
  machine.synchronise();
  const Outcome outcome = run->outcome();

  fault_on = 0;
  const auto channel = [&](std::string_view tensor, std::int64_t b, std::int64_t d) { return op.channel(p, machine, tensors, tensor, b, d); };
  ErrorReport worst;
  worst.ratio_local = op.ratio_local(p, machine, tensors);
  if (p.pass == "forward") {
    judge_forward(
        p, [&](std::int64_t b, std::int64_t d) { return channel("h", b, d); }, reference, worst);
  } else {
    GradientReports reports;
    judge_backward(p, channel, reference, reports);
    worst.ratio_forward = 0;
    for (const ErrorReport* report : {&reports.du, &reports.da, &reports.dh0}) worst.ratio_forward = max_or_nan(*worst.ratio_forward, report->ratio_forward.value_or(NAN));
  }
  const std::string reason = judge_outcome(outcome, worst, Status::ok).reason;
  fault_on = fault;
  return reason;
}

int run_trivial() {
  ReferenceCache reference(cache_directory());
  for (const char* device : {"cpu", "emulated"}) {
    const std::unique_ptr<Machine> machine = open_machine(device);
    for (const Trivial& each : trivial_cases(device)) {
      std::string reason;
      try {
        reason = judged(each, *machine, reference);
      } catch (const std::exception& error) {
        reason = error.what();
      }
      if (reason.empty()) continue;
      std::cout << fmt::format("{} {} {} {} L = {}: {}", device, each.solver, each.problem.cell, each.problem.pass, each.problem.seq_len, reason) << std::endl;
      return kWrong;
    }
  }
  return 0;
}

// --- checks, in processes of their own -----------------------------------------------------------------------------------------

/// Runs a program of this build, from the root of the sources, with a fault on; nothing of it is kept.
Ended run_program(const std::string& program, const std::string& arguments, int fault) {
  static std::atomic<int> count = 0;
  constexpr int kLimit_s = 60;
  const fs::path folder = fs::temp_directory_path() / fmt::format("prnn-selftest-{}-{}", getpid(), count++);
  fs::create_directories(folder);
  const std::string command = fmt::format(
      "cd '{}' && out='{}/record.jsonl' PRNN_FAULT={} PRNN_CACHE='{}/cache' PRNN_EXE='{}/prnn_faults' && export PRNN_FAULT PRNN_CACHE PRNN_EXE && "
      "exec timeout {} '{}/{}' {} >'{}/out' 2>&1",
      home_directory().string(), folder.string(), fault, folder.string(), program_folder().string(), kLimit_s, program_folder().string(), program, arguments, folder.string());
  const double start = steady_now_s();
  const int status = std::system(command.c_str());
  Ended ended{WIFEXITED(status) ? WEXITSTATUS(status) : 128, steady_now_s() - start, ""};
  std::ifstream out(folder / "out", std::ios::binary);
  ended.out.assign(std::istreambuf_iterator<char>(out), {});
  std::error_code ignored;
  fs::remove_all(folder, ignored);
  return ended;
}

Ended run_check(const Check& check, int fault) {
  if (!is_of_tests(check)) return run_program(check.program, check.arguments, fault);
  return run_program(check.program, fmt::format("--gtest_brief=1 --gtest_fail_fast '--gtest_filter={}'", fmt::join(patterns_of(check), ":")), fault);
}

/// work(i) for 0 .. count - 1, as many at a time as there are processors, two at least.
template <class Work>
void in_parallel(std::size_t count, const Work& work) {
  std::atomic<std::size_t> next = 0;
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < std::max(2u, std::thread::hardware_concurrency()); ++t) {
    threads.emplace_back([&] {
      for (std::size_t i; (i = next++) < count;) work(i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

/// Every check without a fault; the complaint of each that fails.
std::vector<std::string> false_alarms() {
  std::vector<std::string> said(checks().size());
  in_parallel(said.size(), [&](std::size_t i) {
    const Ended ended = run_check(checks()[i], 0);
    if (ended.code != 0) said[i] = fmt::format("check '{}' fails without a fault, code {}:\n{}", checks()[i].name, ended.code, ended.out);
  });
  std::erase(said, "");
  return said;
}

int selftest(bool trivial, bool json) {
  if (trivial) return run_trivial();
  fault_on = 0;
  std::vector<std::string> alarms = false_alarms();
  if (const std::string pattern = pattern_without_test(checks(), run_program("prnn_faults_tests", "--gtest_list_tests", 0).out); !pattern.empty()) alarms.push_back(pattern);
  if (const Ended trivial_run = run_program("prnn_faults", "selftest --trivial", 0); trivial_run.code != 0) alarms.push_back("without a fault: " + trivial_run.out);
  for (const std::string& alarm : alarms) std::cerr << "selftest: " << alarm << std::endl;
  if (!alarms.empty()) return kWrong;
  std::vector<Tried> all(faults().size());
  in_parallel(all.size(), [&](std::size_t i) {
    const Fault& fault = faults()[i];
    all[i] = try_checks(fault, run_program("prnn_faults", "selftest --trivial", fault.id).code == 0, checks(), [&](const Check& check) { return run_check(check, fault.id); });
  });
  const Places places = fault_places(home_directory());
  std::cout << (json ? to_json(all, places).dump() + "\n" : to_table(all, places)) << std::flush;
  return exit_code(all);
}

#endif

}  // namespace

int selftest_command(bool trivial, bool json) { return selftest(trivial, json); }

}  // namespace prnn
