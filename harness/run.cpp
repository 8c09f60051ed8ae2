// run.cpp: see run.hpp.
#include "harness/run.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>
#include <algorithm>
#include <ctime>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>

#include "harness/against.hpp"
#include "harness/cell_compiler.hpp"
#include "harness/commands.hpp"
#include "harness/exit_codes.hpp"
#include "harness/plan.hpp"
#include "harness/progress.hpp"
#include "harness/sha256.hpp"
#include "harness/shell_words.hpp"
#include "harness/supervisor.hpp"
#include "harness/sweep.hpp"
#include "harness/timer.hpp"
#include "harness/turns.hpp"
#include "reference/user_cell.hpp"

namespace prnn {
namespace {

namespace fs = std::filesystem;

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

std::string no_device_cell(const RunFlags& flags, const std::string& device) {
  return fmt::format("--cell {}: a cell from a header runs on the CPU alone in this build, not on device {}; expected --device cpu", flags.cell, device);
}

/// A machine and the plan for it, or the part of it that is this run's.
struct Prepared {
  std::unique_ptr<Machine> machine;
  std::vector<Group> plan;
  std::optional<Shard> shard;
};

Prepared prepare(const Suite& suite, const RunFlags& flags) {
  const auto [index, count] = parse_shard(flags.shard);
  PlanOptions options;
  options.only = flags.only;
  Prepared prepared{open_machine(flags.device), {}, {}};
  options.device = prepared.machine->device();
  if (!flags.cell.empty() && options.device != "cpu") throw BadInput(no_device_cell(flags, options.device));
  options.free_bytes = prepared.machine->free_bytes();
  options.last_level_cache_bytes = prepared.machine->last_level_cache_bytes();
  prepared.plan = make_plan(suite, options);
  if (count == 1) return prepared;
  prepared.shard = deal(prepared.plan, index, count);
  prepared.plan = groups_of(*prepared.shard, std::move(prepared.plan));
  return prepared;
}

std::vector<std::string> case_ids_of(const std::vector<Group>& plan) {
  std::vector<std::string> ids;
  for (const Group& group : plan) {
    for (const Case& c : group.cases) ids.push_back(c.case_id);
  }
  return ids;
}

/// What is damaged on purpose stays where nobody takes it for a result.
void refuse_damage(const RunFlags& flags) {
  parse_injection(flags.inject);
  const fs::path results = fs::weakly_canonical(home_directory() / "results"), out = fs::weakly_canonical(flags.out);
  if (!flags.out.empty() && std::mismatch(results.begin(), results.end(), out.begin(), out.end()).first == results.end()) {
    throw BadInput(fmt::format("--inject {}: expected --out outside of {}, which holds no damaged runs", flags.inject, results.string()));
  }
}

Provenance head_of(const Suite& suite, const RunFlags& flags, const std::string& command, const Prepared& prepared) {
  Provenance head = provenance_here(suite, command, prepared.machine->device(), prepared.machine->gpu());
  head.order_seed = std::random_device{}();
  head.shard = prepared.shard;
  head.inject = flags.inject;
  head.cell = suite.cell;
  return head;
}

SweepOptions sweep_options(const RunFlags& flags, const Attempt& attempt) {
  SweepOptions options;
  options.in_flight = [&](const std::string& case_id) { attempt.note.set(case_id); };
  options.ended = attempt.ended;
  options.spent_s = attempt.spent_s;
  if (!flags.inject.empty()) options.injection = parse_injection(flags.inject);
  return options;
}

/// Compiles and loads the header of --cell, and puts its cell in the place of the suite's. Throws BadInput. A line where its Jacobian is wrong, else empty.
std::string use_cell(const RunFlags& flags, Suite& suite) {
  if (flags.device == "cuda" || flags.device == "emulated") throw BadInput(no_device_cell(flags, flags.device));
  std::vector<Storage> storages;
  for (const Storage storage : kStorages) {
    const auto asks = [&](const Grid& grid) { return std::find(grid.axes.storage.begin(), grid.axes.storage.end(), storage) != grid.axes.storage.end(); };
    if (std::any_of(suite.grids.begin(), suite.grids.end(), asks)) storages.push_back(storage);
  }
  if (std::all_of(suite.grids.begin(), suite.grids.end(), [](const Grid& grid) { return grid.axes.cells.empty(); }))
    throw BadInput(fmt::format("--cell {}: {} has no cells to replace; expected a suite of op recurrence", flags.cell, suite.path));
  const CompiledCell compiled = compile_cell(flags.cell, storages, cache_directory());
  if (compiled.compiled_s > 0) std::cerr << fmt::format("{}: compiled in {}", flags.cell, readable_time(compiled.compiled_s)) << std::endl;
  if (!compiled.wrong_jacobian.empty()) return compiled.wrong_jacobian;
  const std::string name = load_cell(compiled.object, compiled.digest);
  for (Grid& grid : suite.grids) {
    if (!grid.axes.cells.empty()) grid.axes.cells = {name};
  }
  suite.cell = {{"path", flags.cell}, {"sha256", sha256(compiled.text)}, {"text", compiled.text}};
  return "";
}

/// In a process of its own, the first or one that goes on where another was ended.
int run_suite(const Suite& suite, const RunFlags& flags, const std::string& out, bool timed, const std::string& command, const Attempt& attempt) {
  const Prepared prepared = prepare(suite, flags);
  const auto& [machine, plan, shard] = prepared;
  catch_interrupts();
  std::optional<ReferenceCache> reference;
  if (suite.metric_error) reference.emplace(cache_directory(), suite.limits.reference_s);
  Provenance head = head_of(suite, flags, command, prepared);
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
  SweepOptions options = sweep_options(flags, attempt);
  options.time = timed;
  options.order_seed = todo.head.order_seed;
  options.copy_bytes_per_s = todo.head.copy_bytes_per_s;
  options.reference = reference ? &*reference : nullptr;
  Finished finished{.rows = std::move(todo.done), .planned = case_ids_of(plan), .phases = {}, .phases_json = {}, .unwritten = {}};
  options.write = [&](const std::vector<CaseRecord>& group) {
    finished.rows.insert(finished.rows.end(), group.begin(), group.end());
    writer->write(group);
  };
  options.progress = [&](std::int64_t done, std::int64_t total, const std::string& what) { progress.show(done, total, what); };
  options.interrupted = interrupted;
  try {
    const SweepResult result = sweep(suite, todo.groups, *machine, options);
    finished.phases = result.phases.line();
    finished.phases_json = to_json(result.phases);
    finished.interrupted = result.interrupted;
  } catch (const DiskFull& error) {
    finished.unwritten = error.what();
  }
  progress.end();
  return finish(suite, flags, out, finished);
}

/// As run_suite, but another process says what is timed when, and is given the rows (harness/turns.hpp).
int run_in_turns(const Suite& suite, const RunFlags& flags, const std::string& command, const Attempt& attempt) {
  Turns turns(STDIN_FILENO, STDOUT_FILENO);
  turns.working("start");
  const Prepared prepared = prepare(suite, flags);
  Machine& machine = *prepared.machine;
  const auto begin = turns.begin(head_of(suite, flags, command, prepared));
  if (!begin) return kBroken;
  const double copy_bytes_per_s = begin->copy_bytes_per_s ? *begin->copy_bytes_per_s : machine.copy_bytes_per_s();
  const std::vector<Group> todo = turns.todo(prepared.plan, copy_bytes_per_s, machine.launch_s());
  std::optional<ReferenceCache> reference;
  if (suite.metric_error && begin->judge) reference.emplace(cache_directory(), suite.limits.reference_s);

  SweepOptions options = sweep_options(flags, attempt);
  options.in_flight = [&, note = options.in_flight](const std::string& case_id) {
    note(case_id);
    if (!case_id.empty()) turns.working(case_id);
  };
  options.order_seed = begin->order_seed;
  options.copy_bytes_per_s = copy_bytes_per_s;
  options.reference = reference ? &*reference : nullptr;
  options.turns = &turns;
  options.write = [&](const std::vector<CaseRecord>& group) { turns.rows(group); };
  options.progress = [&](std::int64_t, std::int64_t, const std::string& what) { turns.working(what); };
  options.interrupted = [&] { return turns.closed(); };
  return sweep(suite, todo, machine, options).interrupted ? kBroken : 0;
}

}  // namespace

int finish(const Suite& suite, const RunFlags& flags, const std::string& out, const Finished& finished) {
  const auto& [rows, planned, phases, phases_json, unwritten, interrupted] = finished;
  int code = exit_code(rows, planned);
  if (!unwritten.empty() && code != kWrong) code = kBroken;
  const Page page = flags.no_report || interrupted || !unwritten.empty() ? Page{} : make_report({out}, "");

  if (flags.json) {
    Json counts = Json::object();
    for (const CaseRecord& row : rows) counts[std::string(to_string(row.status))] = counts.value(std::string(to_string(row.status)), 0) + 1;
    std::cout << Json{{"exit_code", code},         {"record", out},       {"report", page.status == 0 ? Json(page.said) : Json(nullptr)},
                      {"planned", planned.size()}, {"rows", rows.size()}, {"status", counts},
                      {"phases", phases_json}}
                     .dump()
              << std::endl;
  } else {
    std::cout << table(rows, suite.baselines, stdout_has_color());
    if (unwritten.empty()) std::cout << phases << "\n";
    std::cout << "record " << out << std::endl;
    if (page.status == 0) std::cout << "report " << page.said << std::endl;
  }
  if (!unwritten.empty()) std::cerr << unwritten << std::endl;
  if (!page.said.empty() && page.status != 0) std::cerr << "no report: " << page.said << std::endl;
  if (interrupted) std::cerr << fmt::format("interrupted; continue with --out {} --resume", quoted(out)) << std::endl;
  return code;
}

int run_command(const RunFlags& flags, bool timed, const std::string& command) {
  std::vector<Override> overrides;
  for (const std::string& set : flags.set) overrides.push_back(parse_override(set));
  Suite suite = load_suite(flags.suite, overrides);
  if (flags.resume && flags.out.empty()) throw BadInput("--resume: expected --out FILE, the record to continue");
  if (!flags.inject.empty()) refuse_damage(flags);
  timed = timed && suite.metric_time;
  if (const std::string wrong = flags.cell.empty() ? "" : use_cell(flags, suite); !wrong.empty()) {
    std::cerr << wrong << std::endl;
    return kWrong;
  }
  if (flags.dry) {
    const Prepared prepared = prepare(suite, flags);
    return show_plan(suite, prepared.plan, *prepared.machine, timed, flags.json);
  }
  const std::string out = flags.out.empty() ? default_out(suite) : flags.out;
  if (!flags.against.empty()) {
    if (!timed) throw BadInput(fmt::format("--against: {} has no metric \"time\"; there is nothing to take turns at", suite.path));
    return run_against(suite, flags, out, command);
  }
  return supervise(patience_s(suite), [&](const Attempt& attempt) {
    return guarded([&] { return flags.turns ? run_in_turns(suite, flags, command, attempt) : run_suite(suite, flags, out, timed, command, attempt); });
  });
}

double patience_s(const Suite& suite) { return 2 * suite.limits.case_s + suite.limits.reference_s; }

}  // namespace prnn
