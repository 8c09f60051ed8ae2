// cli.cpp: the program prnn: commands, flags and exit codes of design section 1.
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <iostream>
#include <nlohmann/json.hpp>

#include "harness/baseline.hpp"
#include "harness/commands.hpp"
#include "harness/exit_codes.hpp"
#include "harness/nearest.hpp"
#include "harness/plan.hpp"
#include "harness/progress.hpp"
#include "harness/run.hpp"
#include "harness/shard.hpp"
#include "harness/shell_words.hpp"
#include "harness/suite.hpp"

namespace prnn {
namespace {

namespace fs = std::filesystem;

/// Part of the contract, not of this build: refused by name.
const std::vector<std::string> kLaterCommands = {"tune", "explain"};
const std::vector<std::string> kLaterFlags = {"--profile"};

// --- commands of a few lines ---------------------------------------------------------------------------------------------------

int report_command(const std::vector<std::string>& files, const std::string& out, bool json) {
  const Page page = make_report(files, out);
  if (page.status != 0) std::cerr << page.said << std::endl;
  else std::cout << (json ? Json{{"report", page.said}, {"verdicts", (fs::path(page.said).parent_path() / "verdicts.json").string()}}.dump() : page.said) << std::endl;
  return page.status;
}

int reference_command(const std::string& path, const std::vector<std::string>& set, bool json) {
  std::vector<Override> overrides;
  for (const std::string& each : set) overrides.push_back(parse_override(each));
  const Suite suite = load_suite(path, overrides);
  std::vector<Problem> problems;
  for (const Group& group : make_plan(suite, {})) {  // whatever device they will run on, but for those that are too large for any
    if (group.cases.front().bytes() <= suite.limits.bytes) problems.push_back(group.cases.front().problem);
  }
  ReferenceCache reference(cache_directory());
  Progress progress(&std::cerr, stderr_is_terminal());
  const auto filled = reference.fill(problems, [&](std::int64_t done, std::int64_t total) { progress.show(done, total, "reference"); });
  progress.end();
  const std::string cache = cache_directory().string();
  if (json) std::cout << Json{{"channels", filled.channels}, {"computed", filled.computed}, {"spent_s", reference.spent_s()}, {"cache", cache}}.dump() << std::endl;
  else std::cout << fmt::format("{} channels, {} of them computed in {}; cache {}\n", filled.channels, filled.computed, readable_time(reference.spent_s()), cache);
  return 0;
}

// --- the command line ----------------------------------------------------------------------------------------------------

void add_run_flags(CLI::App& app, RunFlags& flags) {
  app.add_option("suite", flags.suite, "suite file (TOML)")->required();
  app.add_option("--out", flags.out, "record to write [build/out/<suite>-<utc>.jsonl]");
  app.add_option("--device", flags.device, "auto | cuda | cpu | emulated [auto]");
  app.add_option("--set", flags.set, "axis=v1,v2: replaces an axis of the suite; repeatable")->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--only", flags.only, "only cases whose case_id matches this regular expression");
  app.add_flag("--resume", flags.resume, "continue the record named by --out; rows that are error or timeout are run again");
  app.add_option("--shard", flags.shard, "i/n: the i-th of n parts of the plan, whole groups; prnn merge joins their records");
  app.add_option("--cell", flags.cell, "header with one cell (examples/mgu.hpp): takes the place of the suite's cells; needs a C++ compiler");
  app.add_flag("--dry", flags.dry, "print plan, memory and time estimate; run nothing");
  app.add_flag("--no-report", flags.no_report, "do not write the page");
  app.add_flag("--json", flags.json, "for programs");
}

void add_timed_run_flags(CLI::App& app, RunFlags& flags) {
  app.add_option("--against", flags.against, "another build of prnn: both take turns at every case, and write --out F and F.against");
  app.add_option("--processes", flags.processes, "so many fresh processes of each program, with --against [5]");
  app.add_option("--inject", flags.inject, "damage to try a gate with: slowdown=SHARE | truncate=BITS | iteration_limit=N, with :SOLVER for one solver");
  app.add_flag("--turns", flags.turns)->group("");  // said by a prnn that runs this one
}

/// The line for arguments that CLI11 did not expect.
std::string unexpected(const CLI::App& app, const std::vector<std::string>& words) {
  const CLI::App* command = app.get_subcommands().empty() ? &app : app.get_subcommands().front();
  std::vector<std::string> flags;
  for (const CLI::Option* option : command->get_options()) {
    for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
  }
  for (const std::string& word : words) {
    const std::string flag = word.substr(0, word.find('='));
    if (!flag.starts_with("-") || std::find(flags.begin(), flags.end(), flag) != flags.end()) continue;
    return fmt::format("prnn {}: unknown flag '{}'{}", command->get_name(), flag, did_you_mean(flag, flags));
  }
  return "";
}

int main_command(const std::vector<std::string>& words) {
  keep_compiled_kernels((cache_directory() / "kernels").string());
  std::string command = "prnn";
  for (const std::string& word : words) command += " " + quoted(word);

  CLI::App app{"prnn: parallel nonlinear recurrent networks, benchmarked and verified"};
  app.name("prnn");
  app.require_subcommand(1);
  RunFlags flags;
  CLI::App* run = app.add_subcommand("run", "verify, trace and time the cases of a suite; table, record, report page");
  add_run_flags(*run, flags);
  add_timed_run_flags(*run, flags);
  run->footer(
      "--against: each case is ready in both programs, in fresh processes, and visited by one and the other in a recorded random order: what drifts drifts for both.\n"
      "--shard i/n: whole groups, dealt by their estimated length; prnn merge joins the records. harness/examples/ has a Slurm array and GNU parallel.\n"
      "--inject: damage on purpose, to try the gate with (slowdown=0.03: real work after each launch; truncate=BITS; iteration_limit=N); never a baseline.");
  add_run_flags(*app.add_subcommand("verify", "run without timing"), flags);

  std::vector<std::string> files, set;
  std::string solver, device = "auto", suite, out, what;
  bool json = false;
  CLI::App* witness = app.add_subcommand("witness", "every solver x {f64, f32} on the exact inputs of witness files");
  witness->add_option("files", files, "witness files (JSON)")->required();
  witness->add_option("--solver", solver, "only solvers whose name matches this regular expression");
  witness->add_option("--device", device, "auto | cuda | cpu | emulated [auto]");
  witness->add_flag("--json", json, "for programs");
  CLI::App* reference = app.add_subcommand("reference", "fill the 50-digit cache for a suite; needs no GPU");
  reference->add_option("suite", suite, "suite file (TOML)")->required();
  reference->add_option("--set", set, "axis=v1,v2: replaces an axis of the suite; repeatable")->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  reference->add_flag("--json", json, "for programs");
  app.add_subcommand("bench", "the cases of a suite as Google Benchmarks in manual-time mode: prnn bench SUITE [--device D] [--benchmark_...]");
  CLI::App* list = app.add_subcommand("list", "what exists, what does not run here and why");
  list->add_option("what", what, "cells | solvers | suites | devices | claims [these]; kernels: registers, spills, shared memory and occupancy of each, on a GPU");
  list->add_flag("--json", json, "for programs");
  CLI::App* report = app.add_subcommand("report", "one self-contained page and verdicts.json from records");
  report->add_option("files", files, "records (JSON lines)")->required();
  report->add_option("--out", out, "directory [that of the first record]");
  report->add_flag("--json", json, "for programs");
  CLI::App* merge = app.add_subcommand("merge", "joins the records of all shards of a plan into one");
  merge->add_option("files", files, "records of run --shard i/n, all n of them")->required();
  merge->add_option("--out", out, "record to write")->required();
  merge->add_flag("--json", json, "for programs");
  GateFlags gate_flags;
  CLI::App* gate = app.add_subcommand("gate", "verdict on a record against baselines, case by case");
  gate->add_option("record", gate_flags.record, "record to judge, with its .again files")->required();
  gate->add_option("--baseline", gate_flags.baselines, "record, folder of records or saved name; repeatable, each is judged by itself")
      ->required()
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  gate->add_option("--calibration", gate_flags.calibration, "A/A runs that tell the noise [those of the baseline]");
  gate->add_option("--policy", gate_flags.policy, "margins and thresholds (TOML) [as in harness/gate.toml]");
  gate->add_flag("--lenient", gate_flags.lenient, "a baseline or case that is not there is noted, not refused");
  gate->add_flag("--replay", gate_flags.replay, "from the files alone: nothing is run again");
  gate->add_option("--junit", gate_flags.junit, "JUnit XML to write");
  gate->add_option("--markdown", gate_flags.markdown, "Markdown to write");
  gate->add_flag("--json", gate_flags.json, "for programs");
  gate->footer(
      "Exit code, the first that applies: 2 wrong or less accurate, 5 a case missing or crashed, 3 more iterations, 1 slower, 4 inconclusive, 0. An improvement never fails.\n"
      "The noise is that of a process, not of a sample: three A/A runs or more in the baseline tell it case by case (prnn baseline show NAME), or those of --calibration.\n"
      "A margin tighter than what 99 % of sweeps of equal builds stay below is reported as unenforceable, and that counts instead.\n"
      "Slower is what lies beyond its margin with its whole 95 % interval, within the rate of false discoveries of the sweep, in clock cycles too, and in a second process:\n"
      "cases that need it are run again beside the record (RECORD.again1.jsonl), so that --replay gives the same verdict. Across machines only speedups are compared.");
  std::string a, b;
  CLI::App* compare = app.add_subcommand("compare", "ratios of times, B over A, with intervals");
  compare->add_option("a", a, "record, folder of records or saved name")->required();
  compare->add_option("b", b, "the same")->required();
  compare->add_flag("--json", json, "for programs");
  std::string action, name_of_baseline;
  CLI::App* baseline = app.add_subcommand("baseline", "save NAME FILE... (3 or more A/A runs tell the noise) | list | show NAME");
  baseline->add_option("action", action, "save | list | show")->required();
  baseline->add_option("name", name_of_baseline, "of the baseline");
  baseline->add_option("files", files, "records to save");
  baseline->add_flag("--json", json, "for programs");
  bool trivial = false;
  CLI::App* selftest = app.add_subcommand("selftest", "every seeded fault and the check that catches it");
  selftest->add_flag("--trivial", trivial,
                     "only the results of regime paper, f32, one channel, at most 32 steps, made with the fault that $PRNN_FAULT names: code 2 where one is wrong");
  selftest->add_flag("--json", json, "for programs");
  selftest->footer("Switches on the faults that are seeded in the sources (harness/faults.cpp) one at a time, in an extra build, and runs the check that is to catch each.");
  CLI::App* info = app.add_subcommand("info", "machine, GPU, clocks, driver, compiler, flags, commit");
  info->add_flag("--json", json, "for programs");

  if (!words.empty() && !words.front().starts_with("-")) {
    std::vector<std::string> known;
    for (const CLI::App* each : app.get_subcommands([](const CLI::App*) { return true; })) known.push_back(each->get_name());
    if (std::find(kLaterCommands.begin(), kLaterCommands.end(), words.front()) != kLaterCommands.end())
      throw BadInput(fmt::format("prnn {} is not part of this build yet", words.front()));
    if (std::find(known.begin(), known.end(), words.front()) == known.end())
      throw BadInput(fmt::format("prnn {}: unknown command{}", words.front(), did_you_mean(words.front(), known)));
    if (words.front() == "bench") return bench_command({words.begin() + 1, words.end()});  // its flags are those of Google Benchmark
    for (const std::string& word : words) {
      const std::string flag = word.substr(0, word.find('='));
      if ((words.front() == "run" || words.front() == "verify") && std::find(kLaterFlags.begin(), kLaterFlags.end(), flag) != kLaterFlags.end()) {
        throw BadInput(fmt::format("prnn {}: {} is not part of this build yet", words.front(), flag));
      }
    }
  }
  try {
    app.parse(std::vector<std::string>(words.rbegin(), words.rend()));  // CLI11 takes a vector from its end
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    std::string line = unexpected(app, words);
    if (line.empty()) line = fmt::format("prnn{}: {}; see prnn --help", app.get_subcommands().empty() ? "" : " " + app.get_subcommands().front()->get_name(), error.what());
    std::replace(line.begin(), line.end(), '\n', ' ');
    throw BadInput(line);
  }
  const std::string name = app.get_subcommands().front()->get_name();
  if (name == "run" || name == "verify") return run_command(flags, name == "run", command);
  if (name == "witness") return witness_command(files, solver, device, json);
  if (name == "reference") return reference_command(suite, set, json);
  if (name == "list") return list_command(what, json);
  if (name == "report") return report_command(files, out, json);
  if (name == "merge") return merge_command(files, out, json);
  if (name == "gate") return gate_command(gate_flags, command);
  if (name == "compare") return compare_command(a, b, json);
  if (name == "baseline") return baseline_command(action, name_of_baseline, files, json);
  if (name == "selftest") return selftest_command(trivial, json);
  return info_command(json);
}

}  // namespace
}  // namespace prnn

int main(int argc, char** argv) {
  std::signal(SIGXFSZ, SIG_IGN);  // a full disk is an error of write(), not the end of the program
  std::signal(SIGPIPE, SIG_IGN);
  return prnn::guarded([&] { return prnn::main_command({argv + 1, argv + argc}); });
}
