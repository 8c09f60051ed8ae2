// cli.cpp: the program prnn: commands, flags and exit codes of design section 1.
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/wait.h>
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>

#include "harness/baseline.hpp"
#include "harness/commands.hpp"
#include "harness/nearest.hpp"
#include "harness/plan.hpp"
#include "harness/progress.hpp"
#include "harness/record.hpp"
#include "harness/shell_words.hpp"
#include "harness/suite.hpp"
#include "harness/supervisor.hpp"
#include "harness/sweep.hpp"
#include "harness/timer.hpp"

namespace prnn {
namespace {

namespace fs = std::filesystem;

constexpr int kBadUsage = 64, kWrong = 2, kBroken = 5;

/// Part of the contract, not of this build: refused by name.
const std::vector<std::string> kLaterCommands = {"merge", "tune", "explain"};
const std::vector<std::string> kLaterFlags = {"--cell", "--against", "--profile"};

/// f(), all of whose output must have been written; what it throws becomes a line and an exit code.
template <class F>
int guarded(F&& f) {
  try {
    const int code = f();
    if (!std::cout.flush()) throw DiskFull("standard output: cannot be written");
    return code;
  } catch (const DeviceLost&) {
    throw;  // the supervisor's
  } catch (const BadInput& error) {
    std::cerr << error.what() << std::endl;
    return kBadUsage;
  } catch (const std::exception& error) {  // DiskFull, DeviceError, a failed allocation
    std::cerr << error.what() << std::endl;
    return kBroken;
  }
}

// --- report ------------------------------------------------------------------------------------------------------------

struct Page {
  int status = kBroken;
  std::string said;  // its path, or one line on what went wrong
};

/// plots/report.py in a process of its own: Python and matplotlib are not needed to measure.
Page make_report(const std::vector<std::string>& files, const std::string& out) {
  const fs::path script = home_directory() / "plots" / "report.py";
  if (!fs::exists(script)) return {kBadUsage, fmt::format("{}: no such file; the page needs the sources of prnn", script.string())};
  const char* python = fs::exists("/usr/bin/python3") ? "/usr/bin/python3" : "/usr/bin/env python3";  // the distribution's own has the distribution's matplotlib
  std::string command =
      fmt::format("PYTHONDONTWRITEBYTECODE=1 MPLCONFIGDIR={} {} {}", quoted(fs::absolute(cache_directory() / "matplotlib").string()), python, quoted(script.string()));
  for (const std::string& file : files) command += " " + quoted(file);
  if (!out.empty()) command += " --out " + quoted(out);
  std::FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (!pipe) return {kBroken, "python3 cannot be started"};
  std::string text;
  for (char buffer[4096]; const std::size_t count = std::fread(buffer, 1, sizeof buffer, pipe);) text.append(buffer, count);
  const int status = pclose(pipe);
  text.erase(text.find_last_not_of('\n') + 1);
  Page page{WIFEXITED(status) ? WEXITSTATUS(status) : kBroken, text.substr(text.rfind('\n') + 1)};
  if (page.status != 0 && page.status != kBadUsage) page.status = kBroken;
  return page;
}

int report_command(const std::vector<std::string>& files, const std::string& out, bool json) {
  const Page page = make_report(files, out);
  if (page.status != 0) std::cerr << page.said << std::endl;
  else std::cout << (json ? Json{{"report", page.said}, {"verdicts", (fs::path(page.said).parent_path() / "verdicts.json").string()}}.dump() : page.said) << std::endl;
  return page.status;
}

// --- run and verify ------------------------------------------------------------------------------------------------------

struct RunFlags {
  std::string suite, out, device = "auto", only, shard = "1/1";
  std::vector<std::string> set;
  bool resume = false, dry = false, no_report = false, json = false;
};

/// build/out/<suite>-<utc>.jsonl, named from here where here is above it; a second run in the same second gets a number.
std::string default_out(const Suite& suite) {
  const fs::path folder = build_directory() / "out", from_here = folder.lexically_relative(fs::current_path());
  const std::string stem =
      ((from_here.empty() || from_here.begin()->string() == ".." ? folder : from_here) / fmt::format("{}-{:%Y%m%dT%H%M%SZ}", suite.name, fmt::gmtime(std::time(nullptr)))).string();
  std::string path = stem + ".jsonl";
  for (int number = 2; fs::exists(path); ++number) path = fmt::format("{}-{}.jsonl", stem, number);
  return path;
}

/// Seconds that a case takes at most once it runs well: its sampling budget, and each launch at twice the memory floor and an empty launch a step.
double estimated_s(const Case& c, bool timed, Machine& machine) {
  const double launch_s =
      2 * static_cast<double>(find_op(c.problem.op).bytes_min(c.problem)) / machine.copy_bytes_per_s() + static_cast<double>(c.problem.seq_len) * machine.launch_s();
  return 10 * launch_s + (timed ? std::max(kCaseBudget_s, kMinSamples * launch_s) + std::max(kWarmUp_s, launch_s) : 0);
}

int show_plan(const Suite& suite, const std::vector<Group>& groups, Machine& machine, bool timed, bool json) {
  std::int64_t runs = 0, skips = 0, most_bytes = 0;
  double total_s = 0;
  Json list = Json::array();
  for (const Group& group : groups) {
    most_bytes = std::max(most_bytes, group.bytes());
    for (const Case& c : group.cases) {
      const double case_s = c.skip.empty() ? std::min(estimated_s(c, timed, machine), suite.limits.case_s) : 0;
      (c.skip.empty() ? runs : skips) += 1;
      total_s += case_s;
      if (json) {
        list.push_back({{"case_id", c.case_id},
                        {"group_id", c.group_id},
                        {"device", c.device},
                        {"expected_status", to_string(c.expect)},
                        {"bytes", c.bytes()},
                        {"estimate_s", case_s},
                        {"skip", c.skip.empty() ? Json(nullptr) : Json(c.skip)}});
      } else {
        std::cout << fmt::format("{:>10}  {}{}\n", readable_bytes(c.bytes()), c.case_id, c.skip.empty() ? "" : "  skipped: " + c.skip);
      }
    }
  }
  total_s = std::min(total_s, suite.limits.total_s);
  if (json) {
    std::cout << Json{{"suite", suite.name}, {"device", machine.device()}, {"groups", groups.size()}, {"cases", runs},
                      {"skipped", skips},    {"bytes", most_bytes},        {"estimate_s", total_s},   {"plan", list}}
                     .dump()
              << "\n";
  } else {
    std::cout << fmt::format("{} on {}: {} cases in {} groups, {} skipped; at most {} at once; about {} and the reference\n", suite.name, machine.device(), runs, groups.size(),
                             skips, readable_bytes(most_bytes), readable_time(total_s));
  }
  return 0;
}

/// A machine and the plan for it.
struct Prepared {
  std::unique_ptr<Machine> machine;
  std::vector<Group> plan;
};

Prepared prepare(const Suite& suite, const RunFlags& flags) {
  PlanOptions options;
  options.only = flags.only;
  std::tie(options.shard, options.shards) = parse_shard(flags.shard);
  Prepared prepared{open_machine(flags.device), {}};
  options.device = prepared.machine->device();
  options.free_bytes = prepared.machine->free_bytes();
  options.last_level_cache_bytes = prepared.machine->last_level_cache_bytes();
  prepared.plan = make_plan(suite, options);
  return prepared;
}

/// In a process of its own, the first or one that goes on where another was ended.
int run_suite(const Suite& suite, const RunFlags& flags, const std::string& out, bool timed, const std::string& command, const Attempt& attempt) {
  const auto [machine, plan] = prepare(suite, flags);
  catch_interrupts();
  std::optional<ReferenceCache> reference;
  if (suite.metric_error) reference.emplace(cache_directory(), suite.limits.reference_s);
  Provenance head = provenance_here(suite, command, machine->device(), machine->gpu());
  head.order_seed = std::random_device{}();
  const bool continued = (flags.resume || !attempt.first()) && fs::exists(out);
  std::optional<RecordWriter> writer;
  if (!continued) writer.emplace(RecordWriter::create(out));  // before anything is measured: it may be refused
  if (timed) {
    head.copy_bytes_per_s = machine->copy_bytes_per_s();
    head.launch_s = machine->launch_s();
  }
  Resumed todo = continued ? resume(out, head, plan, !attempt.first()) : Resumed{plan, {}, head};
  if (continued) writer.emplace(RecordWriter::append(out));
  else writer->write(head);

  Progress progress(&std::cerr, stderr_is_terminal());
  SweepOptions sweep_options;
  sweep_options.time = timed;
  sweep_options.order_seed = todo.head.order_seed;
  sweep_options.copy_bytes_per_s = todo.head.copy_bytes_per_s;
  sweep_options.reference = reference ? &*reference : nullptr;
  std::vector<CaseRecord> rows = std::move(todo.done);
  sweep_options.write = [&](const std::vector<CaseRecord>& group) {
    rows.insert(rows.end(), group.begin(), group.end());
    writer->write(group);
  };
  sweep_options.progress = [&](std::int64_t done, std::int64_t total, const std::string& what) { progress.show(done, total, what); };
  sweep_options.interrupted = interrupted;
  sweep_options.in_flight = [&](const std::string& case_id) { attempt.note.set(case_id); };
  sweep_options.ended = attempt.ended;
  sweep_options.spent_s = attempt.spent_s;
  SweepResult result;
  std::string unwritten;  // why the last group is not in the record; it is in the table all the same
  try {
    result = sweep(suite, todo.groups, *machine, sweep_options);
  } catch (const DiskFull& error) {
    unwritten = error.what();
  }
  progress.end();

  std::vector<std::string> planned;
  for (const Group& group : plan) {
    for (const Case& c : group.cases) planned.push_back(c.case_id);
  }
  int code = exit_code(rows, planned);
  if (!unwritten.empty() && code != kWrong) code = kBroken;
  const Page page = flags.no_report || result.interrupted || !unwritten.empty() ? Page{} : make_report({out}, "");

  if (flags.json) {
    Json counts = Json::object();
    for (const CaseRecord& row : rows) counts[std::string(to_string(row.status))] = counts.value(std::string(to_string(row.status)), 0) + 1;
    std::cout << Json{{"exit_code", code},
                      {"record", out},
                      {"report", page.status == 0 ? Json(page.said) : Json(nullptr)},
                      {"planned", planned.size()},
                      {"rows", rows.size()},
                      {"status", counts},
                      {"phases", to_json(result.phases)}}
                     .dump()
              << std::endl;
  } else {
    std::cout << table(rows, suite.baselines, stdout_has_color());
    if (unwritten.empty()) std::cout << result.phases.line() << "\n";
    std::cout << "record " << out << std::endl;
    if (page.status == 0) std::cout << "report " << page.said << std::endl;
  }
  if (!unwritten.empty()) std::cerr << unwritten << std::endl;
  if (!page.said.empty() && page.status != 0) std::cerr << "no report: " << page.said << std::endl;
  if (result.interrupted) std::cerr << fmt::format("interrupted; continue with --out {} --resume", quoted(out)) << std::endl;
  return code;
}

int run_command(const RunFlags& flags, bool timed, const std::string& command) {
  std::vector<Override> overrides;
  for (const std::string& set : flags.set) overrides.push_back(parse_override(set));
  const Suite suite = load_suite(flags.suite, overrides);
  if (flags.resume && flags.out.empty()) throw BadInput("--resume: expected --out FILE, the record to continue");
  timed = timed && suite.metric_time;
  if (flags.dry) {
    const auto [machine, plan] = prepare(suite, flags);
    return show_plan(suite, plan, *machine, timed, flags.json);
  }
  const std::string out = flags.out.empty() ? default_out(suite) : flags.out;
  const double patience_s = 2 * suite.limits.case_s + suite.limits.reference_s;  // a step that is slow, not hung, ends before: verification includes the reference of gradients
  return supervise(patience_s, [&](const Attempt& attempt) { return guarded([&] { return run_suite(suite, flags, out, timed, command, attempt); }); });
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
  app.add_option("--shard", flags.shard, "i/n: the i-th of n parts of the plan, whole groups");
  app.add_flag("--dry", flags.dry, "print plan, memory and time estimate; run nothing");
  app.add_flag("--no-report", flags.no_report, "do not write the page");
  app.add_flag("--json", flags.json, "for programs");
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
  std::string command = "prnn";
  for (const std::string& word : words) command += " " + quoted(word);

  CLI::App app{"prnn: parallel nonlinear recurrent networks, benchmarked and verified"};
  app.name("prnn");
  app.require_subcommand(1);
  RunFlags flags;
  add_run_flags(*app.add_subcommand("run", "verify, trace and time the cases of a suite; table, record, report page"), flags);
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
  list->add_option("what", what, "cells | solvers | suites | devices | claims [all]");
  list->add_flag("--json", json, "for programs");
  CLI::App* report = app.add_subcommand("report", "one self-contained page and verdicts.json from records");
  report->add_option("files", files, "records (JSON lines)")->required();
  report->add_option("--out", out, "directory [that of the first record]");
  report->add_flag("--json", json, "for programs");
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
